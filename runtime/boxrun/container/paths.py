"""Paths inside a container's root, resolved so that no link or race leads out of it.

Every path is opened with ``openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`` and from then on is a descriptor, never a string:
what is mounted, made or checked is what was opened. Missing parts are made by their name in an open parent.
"""

from __future__ import annotations

import os
import stat
from errno import EEXIST, ENOENT
from typing import Final

from boxrun.linux.files import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

RESOLVE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS


def normalise(path: str) -> str:
    """Return ``path`` as an absolute one without empty, ``.`` and ``..`` parts."""
    return os.path.normpath("/" + path.lstrip("/"))


def open_path(root_fd: int, path: str, *, follow: bool = True) -> int:
    """Return an ``O_PATH`` descriptor of ``path`` below ``root_fd``; a final link is opened itself unless ``follow``."""
    return openat2(root_fd, path, os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE)


def open_read(root_fd: int, path: str) -> int:
    """Open the regular file ``path`` below ``root_fd`` for reading; pipes and devices are refused, not waited for.

    Raises:
        OSError: it can't be opened, or it isn't a regular file (EINVAL).
    """
    fd = openat2(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=RESOLVE)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(22, "not a regular file", path)
    return fd


def make_directory(root_fd: int, path: str, mode: int = 0o755) -> int:
    """Return a descriptor of the directory ``path``, making it and its missing parents.

    Args:
        root_fd: the root.
        path: a normalised absolute path.
        mode: permissions of what is made.

    Raises:
        OSError: a part is no directory, or a link that leads nowhere.
    """
    try:
        return openat2(root_fd, path, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE)
    except FileNotFoundError:
        parent_path, name = os.path.split(path)
        if not name:
            raise
    parent_fd = make_directory(root_fd, parent_path, mode)
    try:
        try:
            os.mkdir(name, mode, dir_fd=parent_fd)
        except FileExistsError:
            # Either somebody else made it, which is fine, or it is a link to nothing, which the open below refuses.
            pass
    finally:
        os.close(parent_fd)
    return openat2(root_fd, path, os.O_PATH | os.O_DIRECTORY, resolve=RESOLVE)


def make_file(root_fd: int, path: str) -> int:
    """Return an ``O_PATH`` descriptor of ``path``, making an empty file and its missing parents where there is nothing."""
    try:
        return open_path(root_fd, path)
    except FileNotFoundError:
        parent_path, name = os.path.split(path)
        if not name:
            raise
    parent_fd = make_directory(root_fd, parent_path)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, 0o755, dir_fd=parent_fd))
        except OSError as error:
            if error.errno != EEXIST:
                raise
    finally:
        os.close(parent_fd)
    return open_path(root_fd, path)


def exists(root_fd: int, path: str) -> bool:
    """Return whether ``path`` exists below ``root_fd``."""
    try:
        os.close(open_path(root_fd, path))
    except OSError as error:
        if error.errno == ENOENT:
            return False
        raise
    return True
