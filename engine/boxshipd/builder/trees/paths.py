"""Paths inside a tree: following links without leaving it, and going through everything below a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from boxshipd.builder.results import Entry, Tree
from boxshipd.errors import InvalidParameter

_MOST_LINKS = 255


def follow(path: bytes, link: Callable[[bytes], bytes | None]) -> bytes:
    """Where a path leads when the root of everything is the tree's.

    Args:
        path: the path; what is missing of it stays as it is written.
        link: tells where the symbolic link at a path leads, or None where there is none.

    Raises:
        InvalidParameter: there are too many links on the way. Source: containerd/continuity fs/path.go, RootPath.
    """
    pending = path.split(b"/")[::-1]
    done: list[bytes] = []
    links = 0
    while pending:
        part = pending.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            if done:
                done.pop()
            continue
        done.append(part)
        target = link(b"/".join(done))
        if target is None:
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InvalidParameter(f"too many symbolic links on the way to {shown(path)}")
        if target.startswith(b"/"):
            done.clear()
        else:
            done.pop()
        pending.extend(target.split(b"/")[::-1])
    return b"/".join(done)


def walk(tree: Tree, top: bytes) -> Iterator[Entry]:
    """Everything below a directory, but not itself: directories before what is in them, names by their bytes."""
    pending = [iter(tree.children(top))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            continue
        yield entry
        if entry.kind == "directory":
            pending.append(iter(tree.children(entry.path)))


def join(above: bytes, name: bytes) -> bytes:
    """The path of a name in a directory; either may be empty."""
    return above + b"/" + name if above and name else above or name


def shown(path: bytes) -> str:
    """A path as messages have it."""
    return "/" + path.decode("utf-8", "backslashreplace").lstrip("/")
