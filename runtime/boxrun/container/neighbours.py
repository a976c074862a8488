"""Taking a mount from another running container: its /dev/shm, which whoever joins its ipc namespace shares.

The kernel clones a mount only for a process in the mount's own namespace, so the caller's process steps into it by the other
container's pid descriptor and back out again. It looks up nothing there but the one directory, follows no link, and takes
nothing but a tmpfs. Nothing is ever mounted in the host. Sources: setns(2), open_tree(2).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from errno import EINVAL
from typing import Final

from boxrun.container.namespaces import return_home
from boxrun.container.spec import Mount
from boxrun.errors import SetupError
from boxrun.linux import mounts
from boxrun.linux.files import (
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    TMPFS_MAGIC,
    filesystem_magic,
    openat2,
)
from boxrun.linux.namespaces import CLONE_NEWNS, setns

_RESOLVE: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
_JOINED_WITH: Final = "ipc"


def borrow(specified: Sequence[Mount], joins: Mapping[str, int]) -> dict[str, int]:
    """Return a detached clone for each mount that comes from another container, by the mount's target.

    Args:
        specified: the container's mounts.
        joins: a pid descriptor for each kind of namespace that is joined.

    Raises:
        SetupError: the other container doesn't run any more, or has no tmpfs there.
    """
    borrowed: dict[str, int] = {}
    for mount in specified:
        if not mount.container:
            continue
        try:
            borrowed[mount.target] = _take(joins[_JOINED_WITH], mount.source)
        except (OSError, KeyError) as error:
            for fd in borrowed.values():
                os.close(fd)
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it isn't joined"
            message = f"take {mount.source} of container {mount.container}: {reason}"
            raise SetupError("mounts", getattr(error, "errno", 0) or 0, message) from error
    return borrowed


def _take(pidfd: int, path: str) -> int:
    """A detached clone of the tmpfs at ``path`` in the mount namespace of ``pidfd``."""
    own_fd = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        setns(pidfd, CLONE_NEWNS)
        try:
            return _clone(path)
        finally:
            return_home(own_fd, CLONE_NEWNS, root_fd)
    finally:
        os.close(own_fd)
        os.close(root_fd)


def _clone(path: str) -> int:
    root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = openat2(root_fd, path, os.O_PATH | os.O_DIRECTORY, resolve=_RESOLVE)
    finally:
        os.close(root_fd)
    try:
        if filesystem_magic(fd) != TMPFS_MAGIC:
            raise OSError(EINVAL, "it is no tmpfs", path)
        tree_fd = mounts.open_tree("", dir_fd=fd)
    finally:
        os.close(fd)
    mounts.mount_setattr(tree_fd, propagation=mounts.MS_PRIVATE)
    return tree_fd
