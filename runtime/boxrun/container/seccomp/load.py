"""Putting a compiled seccomp program on the calling thread: all the container's child needs, without libseccomp.

Source: seccomp(2), Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import os
import struct

from boxrun.container.seccomp.errors import SeccompError
from boxrun.linux.syscalls import SECCOMP, libc, raw

HEADER = struct.Struct("=II")
"""In front of the instructions: the format's number, and the flags for seccomp(2)."""

FORMAT = 1
INSTRUCTION_SIZE = 8

_SET_MODE_FILTER = 1
_PR_SET_NO_NEW_PRIVS = 38


class _Program(ctypes.Structure):
    """``struct sock_fprog`` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def load_program(program: bytes, no_new_privs: bool) -> None:
    """Filter the calling thread's system calls, for good, across execve(2) and fork(2).

    Args:
        program: what ``compile_profile`` returned; empty for no filter at all.
        no_new_privs: set no_new_privs first, as a thread without CAP_SYS_ADMIN must.

    Raises:
        SeccompError: the kernel refused the program.
    """
    if no_new_privs and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise SeccompError(f"prctl PR_SET_NO_NEW_PRIVS: {os.strerror(ctypes.get_errno())}")
    if not program:
        return
    version, flags = HEADER.unpack_from(program)
    if version != FORMAT:
        raise SeccompError(f"seccomp program of format {version}, wanted {FORMAT}")
    instructions = program[HEADER.size :]
    descriptor = _Program(len(instructions) // INSTRUCTION_SIZE, instructions)
    if raw(SECCOMP, _SET_MODE_FILTER, flags, ctypes.byref(descriptor)) != 0:
        raise SeccompError(f"seccomp SECCOMP_SET_MODE_FILTER: {os.strerror(ctypes.get_errno())}")
