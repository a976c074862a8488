"""Directories and files of a cgroup hierarchy, always relative to a directory's file descriptor."""

from __future__ import annotations

import errno
import os

from boxrun.container.cgroups.errors import CgroupError, InvalidLimitError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_READ_SIZE = 65536


def components(path: str) -> list[str]:
    """The parts of a group's path below the hierarchy's root.

    Raises:
        InvalidLimitError: the path is the root, or has a part that could lead elsewhere.
    """
    parts = [part for part in path.split("/") if part]
    if not parts or any(part in (".", "..") or "\0" in part or len(part) > 255 for part in parts):
        raise InvalidLimitError(f"cgroup path {path!r} is not a path below the hierarchy's root")
    return parts


def component(name: str) -> str:
    """``name``, a single part of a path. Raises InvalidLimitError."""
    if components(name) != [name]:
        raise InvalidLimitError(f"cgroup name {name!r} is not a single directory name")
    return name


def open_directory(name: str, parent: int | None = None) -> int:
    """Open a directory. Raises OSError."""
    return os.open(name, _DIRECTORY, dir_fd=parent)


def read(directory: int, name: str) -> str:
    """A file's whole text. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        chunks = []
        while chunk := os.read(fd, _READ_SIZE):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks).decode("ascii")


def write(directory: int, name: str, value: str) -> None:
    """Write ``value`` in one write(2), as cgroup files want it. Raises OSError."""
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def exists(directory: int, name: str) -> bool:
    """Whether a file is there."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def numbers(text: str) -> dict[str, int]:
    """A flat keyed file's lines (``populated 1``) as a dictionary."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def children(directory: int) -> list[str]:
    """The names of the groups below. Raises OSError."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def pids(directory: int) -> list[int]:
    """The processes in a group and in all groups below. A group that vanishes meanwhile has none. Raises OSError."""
    try:
        found = [int(line) for line in read(directory, "cgroup.procs").split()]
        names = children(directory)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return []
        raise
    for name in names:
        try:
            below = open_directory(name, directory)
        except FileNotFoundError:
            continue
        try:
            found += pids(below)
        finally:
            os.close(below)
    return found


def remove(parent: int, name: str) -> bool:
    """Remove a group, and the groups below it first.

    Returns:
        False where a process in it prevents that for now.

    Raises:
        CgroupError: the kernel refused for another reason.
    """
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise CgroupError(f"remove cgroup {name}: {error.strerror}") from error
    else:
        return True
    try:
        directory = open_directory(name, parent)
    except FileNotFoundError:
        return True
    try:
        removed = [remove(directory, below) for below in children(directory)]
        if not removed or not all(removed):
            return False
    finally:
        os.close(directory)
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise CgroupError(f"remove cgroup {name}: {error.strerror}") from error
        return False
    return True
