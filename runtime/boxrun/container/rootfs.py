"""The root file system: an overlay that only the container's mount namespace ever sees, and becoming its root.

The overlay is made as a detached mount on the host's side, where its layers' paths are valid, and attached by the child.
"""

from __future__ import annotations

import os
from errno import EINVAL, ENOSYS
from typing import Final

from boxrun.container import mapped_root
from boxrun.container.options import PROPAGATION
from boxrun.container.spec import Root
from boxrun.linux import mounts

#: fsconfig(2) takes strings of up to 255 bytes.
_STRING_LIMIT: Final = 255


def detached_overlay(root: Root) -> int:
    """Return a detached mount of the overlay ``root``; without ``upper`` nothing can be written, and it takes two layers.

    Raises:
        OSError: a directory is missing or the kernel refuses the combination.
    """
    return mapped_root.overlay(root, _overlay) if root.uid_mappings else _overlay(root)


def _overlay(root: Root) -> int:
    opened: list[int] = []
    try:
        layers = [_short(path, opened) for path in root.lower]
        own: list[tuple[str, str | None]] = [("index", "off")]
        if root.upper:
            own = [("upperdir", _short(root.upper, opened)), ("workdir", _short(root.work, opened)), *own]
        if root.volatile:
            # Else its unmounting, which a container's last process does while it ends, waits for all that is written anywhere
            # on the upper directory's file system. Since Linux 5.10.
            own.append(("volatile", None))
        try:
            return mounts.new_mount("overlay", [*(("lowerdir+", layer) for layer in layers), *own])
        except OSError as error:
            if error.errno not in (EINVAL, ENOSYS):
                raise
        # Before Linux 6.5 there is no lowerdir+, so all layers go into one option.
        joined = ":".join(layer.replace("\\", "\\\\").replace(":", "\\:") for layer in layers)
        if len(os.fsencode(joined)) > _STRING_LIMIT:
            joined = ":".join(_by_descriptor(path, opened) for path in root.lower)
        return mounts.new_mount("overlay", [("lowerdir", joined), *own])
    finally:
        for fd in opened:
            os.close(fd)


def attach(root_fd: int) -> None:
    """Attach the detached root on top of the namespace's own, out of which :func:`enter` then pivots."""
    mounts.mount("", "/", "", mounts.MS_REC | mounts.MS_SLAVE)
    slash_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mounts.move_mount(root_fd, slash_fd)
    finally:
        os.close(slash_fd)


def enter(root_fd: int) -> None:
    """Make ``root_fd`` the root of the mount namespace and drop everything that was there before."""
    os.fchdir(root_fd)
    mounts.pivot_root(".", ".")
    # The old root now lies on top of the new one, and "." resolves to it.
    mounts.unmount(".", mounts.MNT_DETACH)
    os.chdir("/")


def finish(root_fd: int, root: Root) -> None:
    """Make the root mount read-only where asked; what is mounted on it stays as it is."""
    if root.readonly:
        mounts.mount_setattr(root_fd, set_flags=mounts.MOUNT_ATTR_RDONLY)


def propagate(root_fd: int, root: Root) -> None:
    """Give the root mount its propagation type. Only once it is entered: pivot_root(2) takes no shared mount."""
    kind, _ = PROPAGATION[root.propagation]
    # A new mount is private already.
    if kind != mounts.MS_PRIVATE:
        mounts.mount_setattr(root_fd, propagation=kind)


def _short(path: str, opened: list[int]) -> str:
    return path if len(os.fsencode(path)) <= _STRING_LIMIT else _by_descriptor(path, opened)


def _by_descriptor(path: str, opened: list[int]) -> str:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.append(fd)
    return f"/proc/self/fd/{fd}"
