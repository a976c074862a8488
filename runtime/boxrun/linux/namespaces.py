"""Entering and leaving namespaces, and what they isolate: host name, domain name, the loopback interface.

Sources: unshare(2), setns(2), sethostname(2), setdomainname(2), netdevice(7), ioctl_ns(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from typing import Final

from boxrun.linux import syscalls

CLONE_NEWTIME: Final = 0x80
CLONE_NEWNS: Final = 0x20000
CLONE_NEWCGROUP: Final = 0x2000000
CLONE_NEWUTS: Final = 0x4000000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

# Looked up once, here: the first use of a ctypes function makes an object of it.
_unshare: Final = syscalls.libc.unshare
_setns: Final = syscalls.libc.setns
_sethostname: Final = syscalls.libc.sethostname
_setdomainname: Final = syscalls.libc.setdomainname
_socket: Final = syscalls.libc.socket

_AF_INET: Final = 2
_SOCK_DGRAM_CLOEXEC: Final = 2 | os.O_CLOEXEC
_SIOCSIFFLAGS: Final = 0x8914
_LOOPBACK_UP: Final = b"lo".ljust(16, b"\0") + (0x1 | 0x8 | 0x40).to_bytes(2, "little") + bytes(22)


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` (``CLONE_NEW*``) name for new ones."""
    if _unshare(flags) < 0:
        syscalls.failed(f"unshare {flags:#x}")


def setns(fd: int, kind: int = 0) -> None:
    """Enter the namespace of ``fd``; ``kind`` (a ``CLONE_NEW*`` flag) refuses one of another kind."""
    if _setns(fd, kind) < 0:
        syscalls.failed(f"setns fd {fd} {kind:#x}")


def sethostname(name: str) -> None:
    """Set the UTS namespace's host name."""
    encoded = name.encode()
    if _sethostname(encoded, ctypes.c_size_t(len(encoded))) < 0:
        syscalls.failed(f"sethostname {name}")


def setdomainname(name: str) -> None:
    """Set the UTS namespace's NIS domain name."""
    encoded = name.encode()
    if _setdomainname(encoded, ctypes.c_size_t(len(encoded))) < 0:
        syscalls.failed(f"setdomainname {name}")


def loopback_up() -> None:
    """Bring the network namespace's ``lo`` up; the kernel then gives it 127.0.0.1 and ::1 by itself."""
    fd = _socket(_AF_INET, _SOCK_DGRAM_CLOEXEC, 0)
    if fd < 0:
        syscalls.failed("socket for lo")
    try:
        fcntl.ioctl(fd, _SIOCSIFFLAGS, _LOOPBACK_UP)
    except OSError as error:
        raise OSError(error.errno, error.strerror, "bring lo up") from error
    finally:
        os.close(fd)
