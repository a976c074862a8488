"""Opening files below a root that may be hostile, and telling file systems apart.

Sources: openat2(2), statfs(2), execveat(2), close_range(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from typing import Final

from boxrun.linux import syscalls
from boxrun.linux.syscalls import AT_EMPTY_PATH, call

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

PROC_SUPER_MAGIC: Final = 0x9FA0
SYSFS_MAGIC: Final = 0x62656572
DEVPTS_SUPER_MAGIC: Final = 0x1CD1
TMPFS_MAGIC: Final = 0x01021994

_CLOSE_RANGE_CLOEXEC: Final = 4
_ALL: Final = ctypes.c_uint(0xFFFFFFFF)
_HOW_SIZE: Final = ctypes.c_size_t(24)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_statfs_buffer: Final = ctypes.create_string_buffer(256)
_fstatfs = syscalls.libc.fstatfs


_ATTEMPTS: Final = 128


def openat2(dir_fd: int, path: str, flags: int, *, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below ``dir_fd`` with the ``RESOLVE_*`` restrictions; the descriptor is close-on-exec.

    Args:
        dir_fd: the directory that the path, and with ``RESOLVE_IN_ROOT`` every link in it, begins at.
        path: the path.
        flags: ``O_*`` flags of open(2).
        resolve: ``RESOLVE_*`` flags.
        mode: permissions of a file that is created.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_ATTEMPTS):
        try:
            return call(f"open {path}", syscalls.OPENAT2, dir_fd, os.fsencode(path), ctypes.byref(how), _HOW_SIZE)
        except BlockingIOError:
            # Anything renamed or mounted anywhere on the machine makes the kernel unsure of a "..", and it says so.
            continue
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), f"open {path}")


def filesystem_magic(fd: int) -> int:
    """Return the type (``*_MAGIC``) of the file system that ``fd`` is on."""
    if _fstatfs(fd, _statfs_buffer) < 0:
        syscalls.failed(f"fstatfs fd {fd}")
    return ctypes.c_uint32.from_buffer(_statfs_buffer).value


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` on."""
    call("close_range", syscalls.CLOSE_RANGE, first, _ALL, 0)


def close_others(kept: Iterable[int]) -> None:
    """Close every descriptor but the standard streams and those of ``kept``."""
    first = 3
    for fd in sorted(set(kept)):
        if fd > first:
            call("close_range", syscalls.CLOSE_RANGE, first, fd - 1, 0)
        first = max(first, fd + 1)
    close_from(first)


def cloexec_from(first: int) -> None:
    """Mark every descriptor from ``first`` on close-on-exec."""
    call("close_range", syscalls.CLOSE_RANGE, first, _ALL, _CLOSE_RANGE_CLOEXEC)


def execveat(fd: int, args: list[str], env: dict[str, str]) -> None:
    """Replace the process by the program open at ``fd``; returns only by raising."""
    argv = (ctypes.c_char_p * (len(args) + 1))(*[os.fsencode(arg) for arg in args], None)
    envp = (ctypes.c_char_p * (len(env) + 1))(*[os.fsencode(f"{key}={value}") for key, value in env.items()], None)
    call(f"execveat fd {fd}", syscalls.EXECVEAT, fd, b"", argv, envp, AT_EMPTY_PATH)
