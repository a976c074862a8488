"""Processes: clone3, pid descriptors, prctl, capabilities and the session keyring.

Sources: clone(2), pidfd_open(2), pidfd_send_signal(2), prctl(2), capset(2), keyctl(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from typing import Final

from boxrun.linux import syscalls
from boxrun.linux.syscalls import SETGROUPS, SETRESGID, SETRESUID, call

CLONE_PIDFD: Final = 0x1000
CLONE_PARENT: Final = 0x8000
CLONE_PARENT_SETTID: Final = 0x100000
CLONE_CLEAR_SIGHAND: Final = 0x100000000
CLONE_INTO_CGROUP: Final = 0x200000000

PR_SET_PDEATHSIG: Final = 1
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_SET_NAME: Final = 15
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_SIGCHLD: Final = 17
_NO_ACTION: Final = bytes(32)
_SIGSET_BYTES: Final = ctypes.c_size_t(8)
CLONE_ARGS_SIZE: Final = ctypes.c_size_t(88)
"""Bytes of clone3's argument."""

_CAPABILITY_VERSION_3: Final = 0x20080522
_KEYCTL_JOIN_SESSION_KEYRING: Final = 1

_prctl = syscalls.libc.prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


class CloneUnsupportedError(OSError):
    """The kernel has no clone3, or refuses one of the flags."""


def clone_arguments(flags: int, pidfd: ctypes.c_int, cgroup_fd: int | None) -> ctypes.Array[ctypes.c_uint64]:
    """Return clone3's argument: ``flags``, a pid descriptor to be put into ``pidfd``, and the cgroup to begin in."""
    arguments = (ctypes.c_uint64 * 11)()
    arguments[0] = flags | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup_fd is not None else 0)
    arguments[1] = ctypes.addressof(pidfd)
    arguments[4] = _SIGCHLD
    arguments[10] = cgroup_fd or 0
    return arguments


def clone3(flags: int, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork with ``CLONE_*`` flags; only for a single-threaded process, as CPython's own fork hooks don't run.

    Args:
        flags: ``CLONE_*``; ``CLONE_PIDFD`` is added, and ``CLONE_INTO_CGROUP`` where ``cgroup_fd`` is given.
        cgroup_fd: the cgroup2 directory in which the child begins.

    Returns:
        The child's pid and pid descriptor in the parent, ``(0, -1)`` in the child.
    """
    pidfd = ctypes.c_int(-1)
    arguments = clone_arguments(flags, pidfd, cgroup_fd)
    pid = syscalls.raw(syscalls.CLONE3, ctypes.byref(arguments), CLONE_ARGS_SIZE)
    if pid == 0:
        return 0, -1
    if pid < 0:
        syscalls.failed(f"clone3 {flags:#x}")
    return pid, pidfd.value


def clone_sibling(number: ctypes.c_int | None = None) -> int:
    """Fork a child of this process's parent; only for a single-threaded process, as for ``clone3``.

    Args:
        number: where the kernel puts the child's pid, in this process's memory, before the child begins.

    Returns:
        The child's pid in this process, 0 in the child.
    """
    # clone(2), since the usual policies hide clone3. The parent is told of the end as it is told of this process's.
    if number is None:
        return call("clone", syscalls.CLONE, CLONE_PARENT, None, None, None, None)
    return call("clone", syscalls.CLONE, CLONE_PARENT | CLONE_PARENT_SETTID, None, ctypes.byref(number), None, None)


def pidfd_open(pid: int) -> int:
    """Return a descriptor of the process ``pid``."""
    return call(f"pidfd_open {pid}", syscalls.PIDFD_OPEN, pid, 0)


def number_of(pidfd: int) -> int:
    """Return the pid of the process that ``pidfd`` refers to, -1 where it has ended. Source: pidfd_open(2).

    Raises:
        ValueError: it is no pid descriptor.
    """
    fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 1024).partition(b"\nPid:")[2].partition(b"\n")[0])
    finally:
        os.close(fd)


def pidfd_send_signal(pidfd: int, signum: int) -> None:
    """Send ``signum`` to the process that ``pidfd`` refers to."""
    call(f"send signal {signum} to pidfd {pidfd}", syscalls.PIDFD_SEND_SIGNAL, pidfd, signum, None, 0)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Make a prctl(2) call with integers and return its result."""
    result: int = _prctl(option, arg2, arg3, arg4, arg5)
    if result < 0:
        syscalls.failed(f"prctl {option} {arg2}")
    return result


def prctl_supported(option: int, arg2: int) -> bool | None:
    """Return a yes-or-no prctl's answer, or None where the kernel doesn't know the argument."""
    result = _prctl(option, arg2, 0, 0, 0)
    return None if result < 0 else bool(result)


_cap_header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
_cap_data = (ctypes.c_uint32 * 6)()


def drop_from_bounding_set(bits: Iterable[int]) -> None:
    """Drop the capabilities numbered ``bits`` from the bounding set."""
    for bit in bits:
        if _prctl(PR_CAPBSET_DROP, bit, 0, 0, 0) < 0:
            syscalls.failed(f"drop capability {bit}")


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set this thread's three capability sets, as bit masks."""
    mask = 0xFFFFFFFF
    _cap_data[0], _cap_data[1], _cap_data[2] = effective & mask, permitted & mask, inheritable & mask
    _cap_data[3], _cap_data[4], _cap_data[5] = effective >> 32, permitted >> 32, inheritable >> 32
    call("capset", syscalls.CAPSET, ctypes.byref(_cap_header), ctypes.byref(_cap_data))


def capget() -> tuple[int, int, int]:
    """Return this thread's effective, permitted and inheritable sets, as bit masks."""
    call("capget", syscalls.CAPGET, ctypes.byref(_cap_header), ctypes.byref(_cap_data))
    return _cap_data[0] | _cap_data[3] << 32, _cap_data[1] | _cap_data[4] << 32, _cap_data[2] | _cap_data[5] << 32


def reset_internal_signals() -> None:
    """Give signals 32 and 33 back their default action; posix_spawn(3) leaves them ignored, and sigaction(3) refuses."""
    for signum in (32, 33):
        reset_signal(signum)


def reset_signal(signum: int) -> None:
    """Give ``signum`` its default action, from any thread, and without Python's own table of handlers being told."""
    call(f"rt_sigaction {signum}", syscalls.RT_SIGACTION, signum, _NO_ACTION, None, _SIGSET_BYTES)


def join_session_keyring(name: str) -> None:
    """Begin a new session keyring called ``name``."""
    call(f"join session keyring {name}", syscalls.KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, os.fsencode(name))


def set_ids(uid: int, gid: int, groups: Sequence[int] | None = None) -> None:
    """Be ``uid`` and ``gid`` altogether, with ``groups`` besides; None leaves those as they are.

    By the bare system calls: the C library's functions go on to tell every thread it remembers, and in a child that borrows its
    parent's memory (``boxrun.linux.vfork``) those are another process's, long ended and ever more. Source: nptl(7).
    """
    if groups is not None:
        call("setgroups", SETGROUPS, ctypes.c_size_t(len(groups)), (ctypes.c_uint32 * len(groups))(*groups))
    for name, number, value in (("setresgid", SETRESGID, gid), ("setresuid", SETRESUID, uid)):
        call(f"{name} {value}", number, *[ctypes.c_ulong(value)] * 3)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send ``signum`` to this process when its parent dies."""
    prctl(PR_SET_PDEATHSIG, signum)


def set_file_system_ids(uid: int, gid: int) -> None:
    """Make and access files as ``uid`` and ``gid`` from now on, with the capabilities there were. Source: setfsuid(2)."""
    _, permitted, inheritable = capget()
    syscalls.libc.setfsgid(gid)
    syscalls.libc.setfsuid(uid)
    # The kernel takes those about files away where the user isn't root any more.
    capset(permitted, permitted, inheritable)
