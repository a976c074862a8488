"""Removing a tree of any depth, whoever made it, without following a link or running out of stack."""

from __future__ import annotations

import contextlib
import os

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove a directory and everything in it; one that is gone already is fine.

    Directories on the way are emptied by moving the directories in them up to the top, so that no depth needs more than two
    descriptors.

    Raises:
        OSError: something in it can't be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        top = os.open(name, _DIRECTORY, dir_fd=dir_fd)
        try:
            _empty(top)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=dir_fd)


def _empty(top: int) -> None:
    moved = 0
    pending = _empty_level(top)
    while pending:
        directory = pending.pop()
        fd = os.open(directory, _DIRECTORY, dir_fd=top)
        try:
            for below in _empty_level(fd):
                # Any name may be there already; a rename would only replace an empty directory, and that is on the list itself.
                moved += 1
                lifted = f".removing-{os.getpid()}-{moved}"
                os.rename(below, lifted, src_dir_fd=fd, dst_dir_fd=top)
                pending.append(lifted)
        finally:
            os.close(fd)
        os.rmdir(directory, dir_fd=top)


def _empty_level(fd: int) -> list[str]:
    """Unlink what isn't a directory; the names of what is."""
    directories: list[str] = []
    with os.scandir(fd) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=fd)
    return directories
