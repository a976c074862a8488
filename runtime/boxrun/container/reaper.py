"""Process 1 of a container started with ``--init``: hands signals on, reaps orphans, ends with the program's status.

It is the child itself, staying behind after forking the program: no binary in the image is needed. It runs as the container's
user with the container's capabilities and filter, as tini would. Kept tiny on purpose: it never allocates much, imports
nothing, opens nothing.
"""

from __future__ import annotations

import os
import signal
from typing import Final, NoReturn

# What the kernel raises for a fault in the reaper itself must stay deliverable to it.
_OWN_FAULTS: Final = {
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGABRT,
    signal.SIGTRAP,
    signal.SIGSYS,
}
_SIGNALS: Final = frozenset(range(1, signal.NSIG)) - {32, 33} - _OWN_FAULTS - {signal.SIGKILL, signal.SIGSTOP}


def split() -> int:
    """Fork the program's process; returns its pid in the reaper and 0 in the program's process.

    All signals are blocked on return in both. The program's process leads a process group of its own, in the foreground where
    standard input is the controlling terminal.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        # The kernel sends SIGTTOU to a background group that does this, unless it is blocked, as it is here.
        try:
            os.tcsetpgrp(0, os.getpid())
        except OSError:
            pass
    return pid


def serve(program: int) -> NoReturn:
    """Be process 1 until ``program`` ends, then exit with its status (128 and the signal's number where one ended it)."""
    while True:
        signum = signal.sigwait(_SIGNALS)
        if signum == signal.SIGCHLD:
            _reap(program)
            continue
        try:
            os.kill(program, signum)
        except OSError:
            # It is ending, or runs as somebody this user may not signal; there is nobody to tell.
            continue


def _reap(program: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
