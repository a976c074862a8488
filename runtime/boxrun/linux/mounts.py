"""The kernel's mount API: trees, file system contexts and mounts as file descriptors.

Sources: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), mount_setattr(2), pivot_root(2), umount2(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from typing import Final

from boxrun.linux import syscalls
from boxrun.linux.syscalls import AT_EMPTY_PATH, AT_FDCWD, AT_RECURSIVE, call

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_ATIME: Final = 0x70
MOUNT_ATTR_RELATIME: Final = 0x0
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR_NODIRATIME: Final = 0x80
MOUNT_ATTR_IDMAP: Final = 0x00100000
MOUNT_ATTR_NOSYMFOLLOW: Final = 0x00200000

MS_REC: Final = 0x4000
MS_UNBINDABLE: Final = 0x20000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000

MNT_DETACH: Final = 2

_OPEN_TREE_CLONE: Final = 1
_CLOEXEC: Final = os.O_CLOEXEC
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_SET_FD: Final = 5
_FSCONFIG_CMD_CREATE: Final = 6

_mount = syscalls.libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_umount2 = syscalls.libc.umount2
_umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """Clone the mount (tree) at ``path`` and return its descriptor; it belongs to no namespace until it is moved.

    Args:
        path: the object's path; empty for ``dir_fd`` itself.
        dir_fd: where a relative path begins.
        recursive: take the mounts below along.
        follow: follow a final symbolic link.
    """
    flags = _OPEN_TREE_CLONE | _CLOEXEC
    if recursive:
        flags |= AT_RECURSIVE
    if not path:
        flags |= AT_EMPTY_PATH
    elif not follow:
        flags |= _AT_SYMLINK_NOFOLLOW
    return call(f"open_tree {path or f'fd {dir_fd}'}", syscalls.OPEN_TREE, dir_fd, os.fsencode(path), flags)


def move_mount(tree_fd: int, target_fd: int, name: str = "") -> None:
    """Attach the detached mount ``tree_fd`` onto ``target_fd``, or onto ``name`` in it (never following a link)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH
    if not name:
        flags |= _MOVE_MOUNT_T_EMPTY_PATH
    call(f"move_mount onto {name or f'fd {target_fd}'}", syscalls.MOVE_MOUNT, tree_fd, b"", target_fd, name.encode(), flags)


def mount_setattr(
    fd: int, *, set_flags: int = 0, clear_flags: int = 0, propagation: int = 0, recursive: bool = False, userns_fd: int = 0
) -> None:
    """Change the attributes (``MOUNT_ATTR_*``) and propagation type (``MS_*``) of the mount ``fd``.

    Args:
        fd: the mount's descriptor.
        set_flags: attributes to set.
        clear_flags: attributes to clear.
        propagation: one of the propagation types, 0 for no change.
        recursive: change the mounts below as well.
        userns_fd: the user namespace whose mapping applies, with ``MOUNT_ATTR_IDMAP``.
    """
    attr = _MountAttr(set_flags, clear_flags, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call(f"mount_setattr fd {fd}", syscalls.MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attr), ctypes.c_size_t(32))


def fsopen(kind: str) -> int:
    """Begin a file system of ``kind`` and return its context's descriptor."""
    return call(f"fsopen {kind}", syscalls.FSOPEN, kind.encode(), 1)


def fsconfig_string(context_fd: int, key: str, value: str) -> None:
    """Set ``key`` to ``value`` (at most 255 bytes)."""
    call(f"fsconfig {key}={value}", syscalls.FSCONFIG, context_fd, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)


def fsconfig_flag(context_fd: int, key: str) -> None:
    """Set the option ``key``, which has no value."""
    call(f"fsconfig {key}", syscalls.FSCONFIG, context_fd, _FSCONFIG_SET_FLAG, key.encode(), None, 0)


def fsconfig_fd(context_fd: int, key: str, fd: int) -> None:
    """Set ``key`` to the object that ``fd`` refers to."""
    call(f"fsconfig {key}=fd {fd}", syscalls.FSCONFIG, context_fd, _FSCONFIG_SET_FD, key.encode(), None, fd)


def fscreate(context_fd: int) -> None:
    """Create the superblock that the context describes."""
    call("create file system", syscalls.FSCONFIG, context_fd, _FSCONFIG_CMD_CREATE, None, None, 0)


def fsmount(context_fd: int, attributes: int = 0) -> int:
    """Return a detached mount of the created file system, with ``MOUNT_ATTR_*`` attributes."""
    return call("fsmount", syscalls.FSMOUNT, context_fd, 1, attributes)


def new_mount(kind: str, options: Iterable[tuple[str, str | None]] = (), attributes: int = 0, source: str = "") -> int:
    """Return a detached mount of a new file system.

    Args:
        kind: the file system's type.
        options: keys and values of its options; a value of None makes a flag.
        attributes: ``MOUNT_ATTR_*`` of the mount.
        source: what /proc/self/mounts shows as the device, by default the type.

    Raises:
        OSError: one of the steps failed; the kernel's own words are part of the message where it has any.
    """
    context_fd = fsopen(kind)
    try:
        fsconfig_string(context_fd, "source", source or kind)
        for key, value in options:
            if value is None:
                fsconfig_flag(context_fd, key)
            else:
                fsconfig_string(context_fd, key, value)
        fscreate(context_fd)
        return fsmount(context_fd, attributes)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{kind}: {error.filename}{_context_message(context_fd)}") from error
    finally:
        os.close(context_fd)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """Mount by path; only for targets that are the caller's own working directory (``.``) or the namespace's root."""
    if _mount(os.fsencode(source), os.fsencode(target), kind.encode(), flags, os.fsencode(data) or None) < 0:
        syscalls.failed(f"mount {kind} on {target}")


def unmount(target: str, flags: int = 0) -> None:
    """Unmount ``target`` with the ``MNT_*`` flags."""
    if _umount2(os.fsencode(target), flags) < 0:
        syscalls.failed(f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root of the mount namespace and move the old one onto ``put_old``."""
    call(f"pivot_root {new_root}", syscalls.PIVOT_ROOT, os.fsencode(new_root), os.fsencode(put_old))


def _context_message(context_fd: int) -> str:
    # Errors are read from the context itself, one per read; without any the read fails with ENODATA.
    try:
        return ": " + os.read(context_fd, 512).decode(errors="replace").strip()
    except OSError:
        return ""
