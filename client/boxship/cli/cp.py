"""``boxship cp``. Source: docker/cli cli/command/container/cp.go."""

from __future__ import annotations

import os
import posixpath
import stat
import time
from collections.abc import Iterator
from typing import Any

from boxship.archive import places
from boxship.archive.places import Place
from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options, Switch
from boxship.errors import APIError, CommandError
from boxship.http.target import quote
from boxship.units import human_size

_CHUNK = 1 << 20
_TAR = [("Content-Type", "application/x-tar")]
_SHOWN_AFTER = 0.5
_SHOWN_EVERY = 0.2
_LINK, _DIRECTORY, _DEVICE, _IRREGULAR = 1 << 27, 1 << 31, 1 << 26, 1 << 25 | 1 << 24 | 1 << 19


class CpOptions(Options):
    """The flags of ``cp``."""

    archive = Switch("Archive mode (copy all uid/gid information)", short="a")
    follow_link = Switch("Always follow symbol link in SRC_PATH", short="L")
    quiet = Switch(
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
        short="q",
    )


class _Meter:
    """Counts what passes, and shows it on a terminal when it takes long."""

    def __init__(self, title: str, *, quiet: bool) -> None:
        self._title = title
        self._shown = not quiet and os.isatty(2)
        self._next = time.monotonic() + _SHOWN_AFTER
        self._drawn = False
        self.count = 0

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self.count += len(piece)
            if self._shown and (now := time.monotonic()) >= self._next:
                self._next = now + _SHOWN_EVERY
                self._drawn = True
                write_all(2, f"\r\x1b[2K{self._title} - {human_size(self.count)}".encode())

    def end(self) -> None:
        if self._drawn:
            write_all(2, b"\r\x1b[2K")


def _split(argument: str) -> tuple[str, str]:
    """A container and a path in it; the container is empty for a local path."""
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    return container, path


def _run(context: Context, options: CpOptions, arguments: list[str]) -> int:
    for argument, what in zip(arguments, ("source", "destination"), strict=True):
        if not argument:
            raise CommandError(f"{what} can not be empty")
    source, source_path = _split(arguments[0])
    target, target_path = _split(arguments[1])
    # As Docker has it: what a terminal would be shown is left out where there is none, unless it is asked for.
    quiet = options.quiet if options.given(CpOptions.quiet) else not os.isatty(1)
    if source and target:
        raise CommandError("copying between containers is not supported")
    if source:
        _from_container(context, options, source, (source_path, target_path), quiet=quiet)
    elif target:
        _to_container(context, options, target, (source_path, target_path), quiet=quiet)
    else:
        raise CommandError("must specify at least one container source")
    return 0


def _stat(context: Context, container: str, path: str) -> dict[str, Any]:
    with context.api.open("HEAD", f"/containers/{quote(container)}/archive", {"path": path}) as response:
        response.read()
        return _decoded(response.headers)


def _decoded(headers: dict[str, str]) -> dict[str, Any]:
    import base64
    import json

    found: dict[str, Any] = json.loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    return found


def _from_container(context: Context, options: CpOptions, container: str, paths: tuple[str, str], *, quiet: bool) -> None:
    path, target_path = paths
    target = None if target_path == "-" else places.local_target(places.absolute(target_path))
    name = ""
    if options.follow_link:
        path, name = _followed(context, container, path)
    with context.api.open("GET", f"/containers/{quote(container)}/archive", {"path": path}) as response:
        if target is None:
            if os.isatty(1):
                raise CommandError("cowardly refusing to copy an archive to a terminal: redirect standard output")
            for chunk in response.chunks():
                write_all(1, chunk)
            return
        from boxship.archive.unpacking import Pieces, unpack

        found = _decoded(response.headers)
        source = Place(path, True, bool(found["mode"] & _DIRECTORY), name)
        plan = places.plan(source, target)
        old = places.split(path)[1]
        if not plan.new and name:
            plan = plan._replace(old=old, new=name)
        elif plan.new:
            plan = plan._replace(old=old)
        meter = _Meter("Copying from container", quiet=quiet)
        try:
            unpack(Pieces(meter.passing(response.chunks())), plan)
        finally:
            meter.end()
    if not quiet:
        context.warn(f"Successfully copied {human_size(meter.count)} to {places.absolute(target_path)}")


def _followed(context: Context, container: str, path: str) -> tuple[str, str]:
    """Where a link in a container leads, and the name that it had."""
    try:
        found = _stat(context, container, path)
    except APIError:
        return path, ""
    if not found["mode"] & _LINK:
        return path, ""
    return places.rebased(path, _joined(path, found["linkTarget"]))


def _joined(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(places.split(path)[0], link))


def _to_container(context: Context, options: CpOptions, container: str, paths: tuple[str, str], *, quiet: bool) -> None:
    source_path, path = paths
    target = _container_target(context, container, path)
    query = {"path": target.path, "noOverwriteDirNonDir": "true", "copyUIDGID": "true" if options.archive else None}
    if source_path == "-":
        if not target.directory:
            raise CommandError(f'destination "{container}:{path}" must be a directory')
        pieces: Iterator[bytes] = iter(lambda: os.read(0, _CHUNK), b"")
        _send(context, container, query, pieces)
        return
    from boxship.archive.packing import pack

    source_path = places.absolute(source_path)
    try:
        source = places.local_source(source_path, follow=options.follow_link)
    except OSError as error:
        raise CommandError(f"lstat {source_path}: {(error.strerror or '').lower()}") from error
    plan = places.plan(source, target)
    query["path"] = plan.directory
    meter = _Meter("Copying to container", quiet=quiet)
    try:
        _send(context, container, query, meter.passing(pack(source.path, plan.new or source.name)))
    finally:
        meter.end()
    if not quiet:
        context.warn(f"Successfully copied {human_size(meter.count)} to {container}:{target.path}")


def _container_target(context: Context, container: str, path: str) -> Place:
    """What is at a path in a container, through a link. That there is nothing is no error yet: its directory may be there."""
    try:
        found = _stat(context, container, path)
        if found["mode"] & _LINK:
            path = _joined(path, found["linkTarget"])
            found = _stat(context, container, path)
    except APIError:
        return Place(path, False, False)
    message = f'destination "{container}:{path}" must be a directory or a regular file'
    if found["mode"] & _DEVICE:
        places.check_kind(stat.S_IFCHR, message)
    elif found["mode"] & _IRREGULAR:
        places.check_kind(stat.S_IFIFO, message)
    return Place(path, True, bool(found["mode"] & _DIRECTORY))


def _send(context: Context, container: str, query: dict[str, str | None], pieces: Iterator[bytes]) -> None:
    context.api.negotiate()
    with context.api.open("PUT", f"/containers/{quote(container)}/archive", query, pieces, _TAR) as response:
        response.read()


CP: Command[CpOptions] = Command(
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tboxship cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    CpOptions,
    _run,
    minimum=2,
    maximum=2,
    description="Use '-' as the source to read a tar archive from stdin\n"
    "and extract it to a directory destination in a container.\n"
    "Use '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
)
