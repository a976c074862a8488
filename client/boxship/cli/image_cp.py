"""``boxship image cp``: images and containers' file systems from one daemon to another."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from boxship.api import API
from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Options, Switch, Text
from boxship.errors import CommandError
from boxship.http.target import quote

if TYPE_CHECKING:
    from boxship.http.dial import TLSFiles

_STEP = 1 << 18


class ImageCpOptions(Options):
    """The flags of ``image cp``."""

    as_ = Text("Name of the image that a container's file system becomes (default: the container's name)", name="as")
    container = Switch("Copy the file systems of containers, which become images")
    from_ = Text("Daemon that has them", name="from", shown="the daemon of -H", kind="host")
    from_tls = Text("Directory with ca.pem, cert.pem and key.pem for --from tcp://", kind="directory")
    platform = Text('Copy only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")')
    quiet = Switch("Only show the images' IDs", short="q")
    to = Text("Daemon that is to have them", shown="the daemon of -H", kind="host")
    to_tls = Text("Directory with ca.pem, cert.pem and key.pem for --to tcp://", kind="directory")


def _check(options: ImageCpOptions, arguments: list[str]) -> None:
    if not options.from_ and not options.to:
        raise CommandError("image cp needs another daemon: --to HOST, --from HOST or both")
    if options.as_ and not options.container:
        raise CommandError("--as names the image that a container becomes: it needs --container")
    if options.as_ and len(arguments) > 1:
        raise CommandError("--as names one image: copy the containers one by one")
    if options.platform and options.container:
        raise CommandError("--platform chooses among an image's platforms; a container has one")
    for flag, directory, host in (("from", options.from_tls, options.from_), ("to", options.to_tls, options.to)):
        if directory and not host.startswith(("tcp://", "https://")):
            raise CommandError(f"--{flag}-tls needs a --{flag} address that begins with tcp://")


def _tls(context: Context, directory: str) -> TLSFiles | None:
    if not directory:
        return context.tls_files()
    from boxship.http.dial import TLSFiles

    files = (os.path.join(directory, name) for name in ("ca.pem", "cert.pem", "key.pem"))
    authority, certificate, key = files
    return TLSFiles(verify=True, ca=authority, certificate=certificate, key=key)


def _run(context: Context, options: ImageCpOptions, arguments: list[str]) -> int:
    _check(options, arguments)
    with (
        API(options.from_ or context.host, _tls(context, options.from_tls)) as source,
        API(options.to or context.host, _tls(context, options.to_tls)) as destination,
    ):
        if source.address.text == destination.address.text:
            raise CommandError(f"source and destination are the same daemon: {source.address.text}")
        if options.container:
            return _copy_containers(context, options, arguments, source, destination)
        return _copy_images(context, options, arguments, source, destination)


def _copy_images(context: Context, options: ImageCpOptions, images: list[str], source: API, destination: API) -> int:
    from boxship.cli.platforms import encode
    from boxship.transfer.images import copy_images

    platform = encode(source, options.platform, "1.48")
    encode(destination, options.platform, "1.48")
    shown = _Shown(", ".join(images), quiet=options.quiet)
    try:
        moved = copy_images(source, destination, images, platform=platform, progress=shown.sent)
    finally:
        shown.clear()
    for image, identifier, state in moved:
        context.print(identifier if options.quiet else f"{state.value}: {image} ({identifier})")
    return 0


def _copy_containers(context: Context, options: ImageCpOptions, containers: list[str], source: API, destination: API) -> int:
    from boxship.references import parse
    from boxship.transfer.containers import copy_container

    for container in containers:
        name = options.as_ or source.call("GET", f"/containers/{quote(container)}/json")["Name"].removeprefix("/")
        image = parse(name.lower() if not options.as_ else name).tagged()
        if image.digest:
            raise CommandError(f"--as {options.as_}: a new image's digest can't be chosen")
        shown = _Shown(container, quiet=options.quiet)
        try:
            identifier = copy_container(source, destination, container, image, progress=shown.sent)
        finally:
            shown.clear()
        context.print(identifier if options.quiet else f"Copied: {image.familiar} ({identifier})")
    return 0


class _Shown:
    """How much has been sent, on a line of the terminal that goes away at the end; nothing elsewhere."""

    def __init__(self, what: str, *, quiet: bool) -> None:
        self._what = what
        self._write: Callable[[int, bytes], None] | None = write_all if not quiet and os.isatty(2) else None
        self._next = 0

    def sent(self, count: int) -> None:
        """So much went by."""
        if self._write is not None and count >= self._next:
            from boxship.units import human_size

            self._next = count + _STEP
            width = os.get_terminal_size(2).columns or 80
            self._write(2, f"\r\x1b[2K{f'{self._what}: {human_size(count, 4)} sent'[: width - 1]}".encode())

    def clear(self) -> None:
        """Take the line away."""
        if self._write is not None and self._next:
            self._write(2, b"\r\x1b[2K")


IMAGE_CP: Command[ImageCpOptions] = Command(
    "[OPTIONS] IMAGE|CONTAINER [IMAGE|CONTAINER...]",
    "Copy images from one daemon to another",
    ImageCpOptions,
    _run,
    minimum=1,
    description=(
        "Streams one daemon's save into the other's load: nothing is stored in between, ids and digests stay the same, and "
        "what is there already isn't sent. Addresses are those of -H: unix://, tcp:// or ssh://. "
        "Example: boxship image cp --to ssh://root@other.example app:1.2"
    ),
)
