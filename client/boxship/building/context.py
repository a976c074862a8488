"""The files that a build may take from: a directory without what its ignore file names, as a tar stream.

Source: docker/cli cli/command/image/build/context.go.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain

from msgspec import Struct

from boxship.archive import tar_writer
from boxship.archive.packing import pack
from boxship.errors import CommandError

IGNORE_FILE = ".dockerignore"
_CHUNK = 1 << 20
_ARCHIVES = (b"\x1f\x8b", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd")
_URLS = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")


class BuildContext(Struct, frozen=True, kw_only=True):
    """Where a build's files come from.

    Attributes:
        dockerfile: the Dockerfile's path in it, empty for the default.
        text: the Dockerfile itself, where it isn't in the context.
        ignore: with ``text``, the ignore file that belongs to it.
        remote: a URL that the daemon gets it from, empty where it is sent.
        chunks: makes the tar stream that is sent, None for ``remote``.
    """

    dockerfile: str = ""
    text: str | None = None
    ignore: str = ""
    remote: str = ""
    chunks: Callable[[], Iterator[bytes]] | None = None


def open_context(where: str, dockerfile: str) -> BuildContext:
    """What a build's argument means.

    Args:
        where: a directory, a URL, or ``-`` for standard input: an archive, or a Dockerfile without a context.
        dockerfile: ``--file``: a path, ``-`` for standard input, or empty for the default.

    Raises:
        CommandError: there is no such directory or file, or standard input is asked for twice.
    """
    if where == "-":
        if dockerfile == "-":
            raise CommandError("invalid argument: can't use stdin for both build context and dockerfile")
        return _standard_input(dockerfile)
    if where.startswith(_URLS):
        return BuildContext(dockerfile=dockerfile, remote=where)
    if not os.path.isdir(where):
        missing = not os.path.exists(where)
        raise CommandError(
            f'unable to prepare context: path "{where}" not found'
            if missing
            else f"unable to prepare context: {where} is not a directory"
        )
    return _directory(where, dockerfile)


def _directory(where: str, dockerfile: str) -> BuildContext:
    top = os.path.realpath(where)
    if dockerfile == "-":
        return _beside(top, sys.stdin.buffer.read(), "")
    given = dockerfile or os.path.join(top, _default(top))
    path = os.path.abspath(given)
    if not os.path.exists(path) and dockerfile and not os.path.isabs(dockerfile):
        path = os.path.join(top, dockerfile)
    if not os.path.isfile(path):
        problem = f"unable to evaluate symlinks in Dockerfile path: lstat {path}: no such file or directory"
        raise CommandError(f"unable to prepare context: {problem}")
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    inside = os.path.relpath(real, top)
    if inside == ".." or inside.startswith("../"):
        with open(path, "rb") as file:
            return _beside(top, file.read(), path)
    patterns = patterns_of(top, inside)
    always = (inside, IGNORE_FILE, f"{inside}{IGNORE_FILE}")
    return BuildContext(dockerfile=inside, chunks=lambda: pack_directory(top, patterns, always))


def _default(top: str) -> str:
    """``Dockerfile``, or ``dockerfile`` where only that is there."""
    names = os.listdir(top)
    return "dockerfile" if "Dockerfile" not in names and "dockerfile" in names else "Dockerfile"


def patterns_of(top: str, dockerfile: str = "") -> tuple[str, ...]:
    """What is left out of a context: by the ignore file of this Dockerfile, or else by the context's.

    Args:
        top: the context's directory.
        dockerfile: the Dockerfile's path, relative to it or absolute; empty for none.
    """
    for path in (os.path.join(top, f"{dockerfile}{IGNORE_FILE}") if dockerfile else "", os.path.join(top, IGNORE_FILE)):
        if path and os.path.isfile(path):
            from boxship.archive.ignore import read_patterns

            with open(path, "rb") as file:
                return tuple(read_patterns(file.read()))
    return ()


def pack_directory(top: str, patterns: tuple[str, ...], always: tuple[str, ...] = ()) -> Iterator[bytes]:
    """A directory as a build gets it: nobody's in particular, without what the patterns name.

    Args:
        top: the directory.
        patterns: of an ignore file.
        always: paths that are packed whatever the patterns say: the builder reads them.
    """
    if not patterns:
        return pack(f"{top}/.", ".", owner=(0, 0))
    from boxship.archive.ignore import Matcher

    matcher = Matcher(patterns)
    needed = {os.path.dirname(path) for path in always} | set(always)

    def keep(path: str, directory: bool) -> bool | None:
        if path in needed or not matcher.matches(path):
            return True
        if directory and not matcher.negates and not any(path == each or each.startswith(f"{path}/") for each in needed):
            return None
        return False

    return pack(f"{top}/.", ".", keep=keep, owner=(0, 0))


def _beside(top: str, data: bytes, path: str) -> BuildContext:
    """A context, and a Dockerfile that isn't in it: from ``path``, or from standard input where that is empty."""
    patterns = patterns_of(top, path)
    return BuildContext(
        dockerfile=os.path.basename(path) or "Dockerfile",
        text=_decoded(data),
        ignore="".join(f"{line}\n" for line in patterns),
        chunks=lambda: pack_directory(top, patterns),
    )


def _standard_input(dockerfile: str) -> BuildContext:
    stream = sys.stdin.buffer
    head = stream.read(512)
    if not head:
        raise CommandError("unable to prepare context: the standard input is empty")
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        return BuildContext(dockerfile=dockerfile, chunks=lambda: chain((head,), iter(lambda: stream.read(_CHUNK), b"")))
    text = _decoded(head + stream.read())
    return BuildContext(dockerfile=dockerfile or "Dockerfile", text=text, chunks=lambda: iter((tar_writer.END,)))


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"the Dockerfile isn't valid UTF-8: {error}") from error
