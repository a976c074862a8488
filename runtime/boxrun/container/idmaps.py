"""Mounts whose files show other owners than the disk has: id-mapped mounts.

A container with a user namespace sees layers and volumes as any other does, and what it writes is stored with the ids it
sees: nothing is copied or chowned, and layers are shared by containers with and without mappings. The kernel takes the mapping
from a user namespace, which is made for the purpose and kept for further mounts of this process.
Sources: mount_setattr(2), user_namespaces(7).
"""

from __future__ import annotations

import os
from errno import EINVAL
from typing import Final

from boxrun.container import namespaces
from boxrun.container.spec import IDMapping
from boxrun.linux import mounts, process
from boxrun.linux.namespaces import CLONE_NEWUSER

_KILL: Final = 9
_made: dict[tuple[tuple[IDMapping, ...], tuple[IDMapping, ...]], int] = {}


def mapped_clone(path: str, uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> int:
    """Return a detached clone of what is mounted at ``path`` that shows owners by these mappings.

    Raises:
        OSError: the file system below can't be mapped, or it isn't there.
    """
    tree_fd = mounts.open_tree(path)
    try:
        apply(tree_fd, uids, gids)
    except BaseException:
        os.close(tree_fd)
        raise
    return tree_fd


def apply(tree_fd: int, uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> None:
    """Map the owners that the detached mount ``tree_fd`` shows.

    Raises:
        OSError: its file system can't be mapped.
    """
    try:
        mounts.mount_setattr(tree_fd, set_flags=mounts.MOUNT_ATTR_IDMAP, userns_fd=_namespace(uids, gids))
    except OSError as error:
        if error.errno != EINVAL:
            raise
        raise OSError(EINVAL, "this file system or kernel has no id-mapped mounts", error.filename) from error


def _namespace(uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> int:
    found = _made.get((uids, gids))
    if found is None:
        found = _made[uids, gids] = _make(uids, gids)
    return found


def _make(uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> int:
    """A user namespace with these mappings; a process lives in it for as long as it takes to write them."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = process.clone3(CLONE_NEWUSER)
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        try:
            namespaces.map_ids(pid, uids, gids)
            return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            process.pidfd_send_signal(pidfd, _KILL)
            os.waitpid(pid, 0)
            os.close(pidfd)
    finally:
        os.close(reader)
        os.close(writer)
