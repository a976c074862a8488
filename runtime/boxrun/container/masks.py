"""Paths that a container mustn't read, or mustn't write.

A masked file gets the null device on top, whose inode was checked to be that, a masked directory an empty read-only tmpfs. A
link in the place of a masked path is an attack or an accident: links are followed only inside the root, and what is mounted
on is what was opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from errno import EACCES, ENOENT, ENOTDIR, ENXIO

from boxrun.container.devices import is_null
from boxrun.container.paths import RESOLVE, open_path
from boxrun.linux import mounts
from boxrun.linux.files import openat2

_COVER = mounts.MOUNT_ATTR_RDONLY | mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC
_ABSENT = (ENOENT, ENOTDIR)


def mask(root_fd: int, paths: Iterable[str], null_fd: int, empty_fd: int) -> None:
    """Hide ``paths`` below ``root_fd``; those that don't exist are left alone.

    Args:
        root_fd: the container's root.
        paths: absolute paths, whose parts may hold one ``*`` each.
        null_fd: a detached mount of the real null device.
        empty_fd: a detached mount of an empty read-only tmpfs.
    """
    covers: dict[bool, int] = {False: null_fd, True: empty_fd}
    used: set[bool] = set()
    for path in expand(root_fd, paths):
        try:
            target_fd = open_path(root_fd, path)
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            raise
        try:
            directory = stat.S_ISDIR(os.fstat(target_fd).st_mode)
            if directory not in used:
                used.add(directory)
                mounts.move_mount(covers[directory], target_fd)
                continue
            # The first cover is attached by now, so that clones of it can be taken on every kernel.
            cover_fd = mounts.open_tree("", dir_fd=covers[directory])
            try:
                mounts.move_mount(cover_fd, target_fd)
            finally:
                os.close(cover_fd)
        finally:
            os.close(target_fd)


def null_cover(dev_fd: int = -1) -> int:
    """Return a detached, read-only mount of the null device in ``dev_fd``, or of the host's; never of anything else.

    Read-only, so that the container can't change the device's permissions through it.

    Raises:
        OSError: what is there isn't the null device.
    """
    tree_fd = (
        mounts.open_tree("null", dir_fd=dev_fd, follow=False) if dev_fd >= 0 else mounts.open_tree("/dev/null", follow=False)
    )
    if not is_null(tree_fd):
        os.close(tree_fd)
        raise OSError(ENXIO, "not the null device", "open null")
    mounts.mount_setattr(tree_fd, set_flags=_COVER, propagation=mounts.MS_PRIVATE)
    return tree_fd


def make_readonly(root_fd: int, paths: Iterable[str]) -> None:
    """Make ``paths`` below ``root_fd``, with what is mounted there, read-only; those that don't exist are left alone."""
    for path in paths:
        try:
            target_fd = open_path(root_fd, path)
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            raise
        try:
            tree_fd = mounts.open_tree("", dir_fd=target_fd, recursive=True)
            try:
                mounts.mount_setattr(tree_fd, set_flags=mounts.MOUNT_ATTR_RDONLY, recursive=True)
                mounts.move_mount(tree_fd, target_fd)
            finally:
                os.close(tree_fd)
        finally:
            os.close(target_fd)


def expand(root_fd: int, paths: Iterable[str]) -> Iterator[str]:
    """Yield ``paths`` with those that hold ``*`` replaced by what matches below ``root_fd``."""
    for path in paths:
        if "*" in path:
            yield from _matches(root_fd, path)
        else:
            yield path


def _matches(root_fd: int, pattern: str) -> Iterator[str]:
    before, _, rest = pattern.partition("*")
    directory, prefix = os.path.split(before)
    suffix, slash, tail = rest.partition("/")
    try:
        fd = openat2(root_fd, directory, os.O_RDONLY | os.O_DIRECTORY, resolve=RESOLVE)
    except OSError as error:
        if error.errno in (*_ABSENT, EACCES):
            return
        raise
    try:
        names = os.listdir(fd)
    finally:
        os.close(fd)
    for name in names:
        if name.startswith(prefix) and name.endswith(suffix) and len(name) >= len(prefix) + len(suffix):
            yield from expand(root_fd, (f"{directory}/{name}{slash}{tail}",))
