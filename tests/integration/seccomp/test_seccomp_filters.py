"""Filters on real processes: what the kernel answers under them."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys

import pytest
from boxrun.container import spec
from boxrun.container.seccomp import compiler
from boxrun.container.seccomp.errors import SeccompError
from boxrun.container.seccomp.load import FORMAT, HEADER, load_program

pytestmark = pytest.mark.skipif(
    compiler.available() is not None or os.uname().machine != "x86_64", reason="uses numbers of x86_64"
)

DEFAULT = ("CAP_CHOWN", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETUID", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE")
libc = ctypes.CDLL(None, use_errno=True)

CLONE, CLONE3, SOCKET, MOUNT, PTRACE, PERSONALITY, MKDIR, KEYCTL, UNSHARE = 56, 435, 41, 165, 101, 135, 83, 250, 272


def under(program: bytes, *calls: tuple[int, ...]) -> list[int]:
    """The errno of each system call (0 for success) in a child with the filter."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            load_program(program, True)
            found = bytearray()
            for number, *args in calls:
                result = libc.syscall(number, *(ctypes.c_long(arg) for arg in args))
                found.append(ctypes.get_errno() if result < 0 else 0)
            os.write(writing, found)
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = list(pipe.read())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return found


def builtin(*capabilities: str) -> bytes:
    return compiler.compile_profile(spec.Seccomp(), DEFAULT + capabilities)


def custom(**document) -> bytes:
    return compiler.compile_profile(spec.Seccomp(mode="custom", profile=json.dumps(document)), DEFAULT)


def test_dockers_default():
    refused = under(
        builtin(),
        (CLONE3, 0, 0),
        (SOCKET, 38, 5, 0),
        (SOCKET, 40, 1, 0),
        (MOUNT, 0, 0, 0, 0, 0),
        (CLONE, 0x10000000, 0, 0, 0, 0),
        (KEYCTL, 0, 0, 0, 0, 0),
        (UNSHARE, 0x20000),
        (PERSONALITY, 0x0040000),
        (900, 0),
    )
    assert refused == [errno.ENOSYS, *[errno.EPERM] * 7, errno.ENOSYS]


def test_what_is_allowed_reaches_the_kernel():
    # Invalid arguments, so that the kernel's own answer shows.
    assert under(builtin(), (SOCKET, 1, 1, 0), (PTRACE, 999, 0, 0, 0), (PERSONALITY, 0xFFFFFFFF), (PERSONALITY, 0)) == [
        0,
        errno.ESRCH,
        0,
        0,
    ]


def test_capabilities_open_their_calls():
    answers = under(builtin("CAP_SYS_ADMIN"), (MOUNT, 0, 0, 0, 0, 0), (CLONE3, 0, 0), (SOCKET, 38, 5, 0))
    assert answers[0] != errno.EPERM
    assert answers[1] == errno.EINVAL
    assert answers[2] == errno.EPERM


def test_a_program_survives_exec():
    program = builtin()
    child = os.fork()
    if child == 0:
        load_program(program, True)
        code = "import socket\ntry: socket.socket(40, 1)\nexcept PermissionError: raise SystemExit(7)"
        os.execv(sys.executable, [sys.executable, "-S", "-c", code])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_custom_profiles():
    refusing = custom(
        defaultAction="SCMP_ACT_ALLOW",
        syscalls=[
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
            },
        ],
    )
    assert under(refusing, (MKDIR, 0, 0), (PERSONALITY, 8), (PERSONALITY, 0xFFFFFFFF)) == [99, errno.EPERM, 0]


@pytest.mark.parametrize(("action", "ended"), [("SCMP_ACT_KILL_PROCESS", signal.SIGSYS), ("SCMP_ACT_TRAP", signal.SIGSYS)])
def test_killing_actions(action, ended):
    program = custom(defaultAction="SCMP_ACT_ALLOW", syscalls=[{"names": ["mkdir"], "action": action}])
    child = os.fork()
    if child == 0:
        libc.prctl(4, 0)
        load_program(program, True)
        libc.syscall(MKDIR, 0, 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -ended


def test_no_new_privileges_without_a_program():
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        load_program(b"", True)
        with open("/proc/self/status", "rb") as status:
            os.write(writing, status.read())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    assert b"NoNewPrivs:\t1" in text
    assert b"Seccomp:\t0" in text


@pytest.mark.parametrize("program", [HEADER.pack(FORMAT + 1, 0), HEADER.pack(FORMAT, 0), HEADER.pack(FORMAT, 0) + b"\xff" * 8])
def test_a_program_that_is_none_is_refused(program):
    child = os.fork()
    if child == 0:
        try:
            load_program(program, True)
        except SeccompError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_the_loader_does_not_bring_libseccomp_in():
    code = (
        "import sys, boxrun.container.seccomp.load\n"
        "assert 'boxrun.container.seccomp.compiler' not in sys.modules\n"
        "assert 'asyncio' not in sys.modules\n"
        "assert 'libseccomp' not in open('/proc/self/maps').read()\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert os.spawnve(os.P_WAIT, sys.executable, [sys.executable, "-c", code], environment) == 0
