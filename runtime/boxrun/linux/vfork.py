"""clone3 with CLONE_VM and CLONE_VFORK: a child that runs in its parent's memory until it executes its program.

A fork copies the page tables, the child then copies every page it touches (in CPython, whatever it looks at: reference counts
are written), and execve throws all of it away. That is a sixth of what a container costs. vfork(2) saves it: the child
borrows the memory, its parent stands still until that has ended or executed something. What must be made sure of:

* *The child needs a stack of its own*, since the parent has to find its own as it left it. Where it begins there is chosen by
  the word on top, which ``syscall(2)`` takes for its return address on x86-64: a ctypes callback. So this is for x86-64 only.
* *The interpreter's notes of where it is* (the thread state's frames and exceptions) are in that memory, and the child never
  returns to put them right. So the parent is a thread made for it, which does nothing afterwards but tell the outcome and end;
  whoever asked for the child waits for it in a thread state that nobody has touched. The lock on the interpreter is held
  by the pair throughout, the child being that thread to all that Python knows.
* *Nothing but memory is shared*: descriptors, directories, signal actions, ids, limits and namespaces are the child's own. So
  what the child writes down about descriptors must not be believed by the parent: give it objects of its own.

From 3.14 on CPython compares the stack's address with where it expects it, and refuses.

Sources: clone(2), vfork(2); glibc sysdeps/unix/sysv/linux/x86_64/syscall.S; CPython Modules/_ctypes/callbacks.c.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Final, NoReturn

from boxrun.linux import process, syscalls


def _supported() -> bool:
    if os.uname().machine != "x86_64" or sys.version_info >= (3, 14):
        return False
    try:
        # The C library's ``syscall`` must be the bare instruction, without a frame on the stack that is left behind.
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except ValueError:
        return False


SUPPORTED: Final = _supported()
"""Whether :func:`spawn` can be called here."""

_CLONE_VM: Final = 0x100
_CLONE_VFORK: Final = 0x4000
_EXIT: Final = 60
_STACK_BYTES: Final = 1 << 20
# The callback's address lies where the stack begins, 16 bytes below its end, as a call would have left it aligned.
_STACK_TOP: Final = _STACK_BYTES - 16

# Unlike ``syscalls.raw``, this one keeps the lock on the interpreter, which has to be the child's.
_syscall: Final = ctypes.PyDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long

_stack: Final = mmap(-1, _STACK_BYTES, flags=MAP_PRIVATE | MAP_ANONYMOUS)
_stack_address: Final = ctypes.addressof(ctypes.c_char.from_buffer(_stack))
_body: list[Callable[[], NoReturn]] = []


def _run_body() -> None:
    try:
        _body[-1]()
    finally:
        os._exit(1)


_begin: Final = ctypes.PYFUNCTYPE(None)(_run_body)
_begin_address: Final = ctypes.cast(_begin, ctypes.c_void_p).value or 0


def spawn(flags: int, cgroup_fd: int | None, body: Callable[[], NoReturn]) -> tuple[int, int]:
    """Have ``body`` executed by a child that borrows this process's memory; returns when that has executed a program or ended.

    Only for a single-threaded process. ``body`` must neither return nor leave anything behind that is wrong for the parent:
    see above. A child that is killed in the middle of it (SIGKILL, a seccomp filter) may take the interpreter down with it,
    whose notes it holds: whoever can bring that about by a container's settings has it made by a fork.

    Args:
        flags: ``CLONE_NEW*`` and the like, none of ``CLONE_NEWUSER`` and ``CLONE_NEWTIME``.
        cgroup_fd: the cgroup2 directory in which the child begins.
        body: what it does: ends in execve(2) or ``os._exit``.

    Returns:
        The child's pid and pid descriptor.

    Raises:
        OSError: clone3 failed.
    """
    pidfd = ctypes.c_int(-1)
    arguments = process.clone_arguments(flags | _CLONE_VM | _CLONE_VFORK, pidfd, cgroup_fd)
    arguments[5], arguments[6] = _stack_address, _STACK_TOP
    reference = ctypes.byref(arguments)
    ctypes.c_uint64.from_address(_stack_address + _STACK_TOP).value = _begin_address
    outcome: list[int] = []
    done = allocate_lock()
    done.acquire()

    def parent() -> None:
        outcome.append(_syscall(syscalls.CLONE3, reference, process.CLONE_ARGS_SIZE))
        outcome.append(ctypes.get_errno())
        done.release()
        # Not by returning, which would look at the thread state.
        syscalls.raw(_EXIT, 0)

    _body.append(body)
    start_new_thread(parent, ())
    done.acquire()
    _body.pop()
    pid, errno = outcome
    if pid < 0:
        syscalls.failed(f"clone3 {flags:#x}", errno)
    return pid, pidfd.value
