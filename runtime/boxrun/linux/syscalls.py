"""The C library's handle, system call numbers and the one place where a failed call becomes an exception."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final, NoReturn

libc: Final = ctypes.CDLL(None, use_errno=True)

#: ``syscall(2)`` with a machine word for every argument: integers, addresses and ``bytes`` are all accepted.
raw: Final = libc.syscall
raw.restype = ctypes.c_long

# Architectures since 2010 have the same. Source: linux/asm-generic/unistd.h.
_GENERIC: Final = {
    "pivot_root": 41,
    "keyctl": 219,
    "capget": 90,
    "capset": 91,
    "seccomp": 277,
    "execveat": 281,
    "rt_sigaction": 134,
    "clone": 220,
    "setgroups": 159,
    "setresuid": 147,
    "setresgid": 149,
}
# Numbers above 423 are the same everywhere (asm-generic/unistd.h); the older ones differ between architectures.
_OLD_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": {
        "pivot_root": 155,
        "keyctl": 250,
        "capget": 125,
        "capset": 126,
        "seccomp": 317,
        "execveat": 322,
        "rt_sigaction": 13,
        "clone": 56,
        "setgroups": 116,
        "setresuid": 117,
        "setresgid": 119,
    },
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
}
_MACHINE: Final = os.uname().machine
if _MACHINE not in _OLD_NUMBERS:  # pragma: no cover - another architecture
    raise ImportError(f"boxrun has no system call numbers for {_MACHINE}")
_NUMBERS: Final = _OLD_NUMBERS[_MACHINE]

PIVOT_ROOT: Final = _NUMBERS["pivot_root"]
KEYCTL: Final = _NUMBERS["keyctl"]
CAPGET: Final = _NUMBERS["capget"]
CAPSET: Final = _NUMBERS["capset"]
SECCOMP: Final = _NUMBERS["seccomp"]
EXECVEAT: Final = _NUMBERS["execveat"]
RT_SIGACTION: Final = _NUMBERS["rt_sigaction"]
CLONE: Final = _NUMBERS["clone"]
SETGROUPS: Final = _NUMBERS["setgroups"]
SETRESUID: Final = _NUMBERS["setresuid"]
SETRESGID: Final = _NUMBERS["setresgid"]
PIDFD_SEND_SIGNAL: Final = 424
OPEN_TREE: Final = 428
MOVE_MOUNT: Final = 429
FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
PIDFD_OPEN: Final = 434
CLONE3: Final = 435
CLOSE_RANGE: Final = 436
OPENAT2: Final = 437
MOUNT_SETATTR: Final = 442

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000


def failed(operation: str, errno: int | None = None) -> NoReturn:
    """Raise the OSError of a call that returned -1.

    Args:
        operation: what was attempted and on what, shown in the error's message.
        errno: the error number, by default that of the last call.
    """
    number = ctypes.get_errno() if errno is None else errno
    raise OSError(number, os.strerror(number), operation)


def call(operation: str, number: int, *args: Any) -> int:
    """Make a system call.

    Args:
        operation: what is attempted and on what, for the error's message.
        number: the system call's number.
        args: integers (fitting a C int, else wrapped in a ctypes type), bytes, or ctypes objects.

    Raises:
        OSError: the call failed.
    """
    result: int = raw(number, *args)
    if result < 0:
        failed(operation)
    return result
