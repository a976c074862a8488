"""Loading eBPF programs and attaching them to cgroups. Source: bpf(2), linux/bpf.h."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from boxrun.linux.syscalls import call

_BPF: Final = {"x86_64": 321}.get(os.uname().machine, 280)
_PROG_LOAD: Final = 5
_PROG_ATTACH: Final = 8
_PROG_GET_FD_BY_ID: Final = 13
_PROG_QUERY: Final = 16
_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6
_ALLOW_MULTI: Final = 2
_REPLACE: Final = 4
_MAX_ATTACHED: Final = 64

_LICENSE: Final = ctypes.create_string_buffer(b"Apache-2.0")
_LOAD_ATTR: Final = struct.Struct("=IIQQIIQII16sII")
_ATTACH_ATTR: Final = struct.Struct("=IIIII")
_QUERY_ATTR: Final = struct.Struct("=IIIIQII")
_ID_ATTR: Final = struct.Struct("=III")

INSTRUCTION: Final = struct.Struct("=BBhi")
"""One eBPF instruction: opcode, destination register in the low and source in the high four bits, offset, immediate."""


def _bpf(operation: str, command: int, attributes: bytes) -> tuple[int, bytes]:
    """Make the call; returns its result and the attributes as the kernel left them."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result = call(operation, _BPF, command, buffer, len(attributes))
    return result, buffer.raw


def load_device_program(instructions: bytes, name: bytes = b"devices") -> int:
    """Load a BPF_PROG_TYPE_CGROUP_DEVICE program.

    Args:
        instructions: whole eBPF instructions.
        name: shown by bpftool, at most 15 bytes.

    Returns:
        A file descriptor the caller closes; attached programs live on without it.

    Raises:
        OSError: the kernel refused the program.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    attributes = _LOAD_ATTR.pack(
        _TYPE_CGROUP_DEVICE,
        len(instructions) // INSTRUCTION.size,
        ctypes.addressof(code),
        ctypes.addressof(_LICENSE),
        0,
        0,
        0,
        0,
        0,
        name,
        0,
        _ATTACH_CGROUP_DEVICE,
    )
    return _bpf("bpf BPF_PROG_LOAD cgroup_device", _PROG_LOAD, attributes)[0]


def attach_device_program(cgroup: int, program: int, replaces: int | None = None) -> None:
    """Make ``program`` judge device accesses of a cgroup2 directory's processes, together with its ancestors' programs.

    Args:
        cgroup: the directory's file descriptor.
        program: the program's.
        replaces: a program attached there already, in whose place ``program`` comes atomically.

    Raises:
        OSError: the kernel refused it.
    """
    flags = _ALLOW_MULTI if replaces is None else _ALLOW_MULTI | _REPLACE
    attributes = _ATTACH_ATTR.pack(cgroup, program, _ATTACH_CGROUP_DEVICE, flags, replaces or 0)
    _bpf("bpf BPF_PROG_ATTACH cgroup_device", _PROG_ATTACH, attributes)


def attached_device_programs(cgroup: int) -> list[int]:
    """New file descriptors of the device programs attached to exactly this cgroup2 directory, which the caller closes.

    Raises:
        OSError: the kernel refused the query.
    """
    ids = (ctypes.c_uint32 * _MAX_ATTACHED)()
    attributes = _QUERY_ATTR.pack(cgroup, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), _MAX_ATTACHED, 0)
    _, answer = _bpf("bpf BPF_PROG_QUERY cgroup_device", _PROG_QUERY, attributes)
    count = _QUERY_ATTR.unpack(answer)[5]
    programs: list[int] = []
    try:
        for index in range(count):
            operation = f"bpf BPF_PROG_GET_FD_BY_ID {ids[index]}"
            programs.append(_bpf(operation, _PROG_GET_FD_BY_ID, _ID_ATTR.pack(ids[index], 0, 0))[0])
    except OSError:
        for program in programs:
            os.close(program)
        raise
    return programs
