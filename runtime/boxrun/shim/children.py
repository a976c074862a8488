"""Processes that end as children of a shim's worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLIN

from boxrun.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from boxrun.shim.poller import Poller


def adopt_orphans(poller: Poller, reaped: Callable[[int], bool]) -> None:
    """Reap what the container's processes leave behind, where it has no process 1 of its own to do so.

    Args:
        poller: waits for them.
        reaped: told the number of each process that has ended; returns whether it has reaped that one itself.
    """
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, _ignore)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def reap(fd: int, _events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        with suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if not reaped(ended.si_pid):
                    os.waitpid(ended.si_pid, 0)

    poller.watch(reader, EPOLLIN, reap)


def _ignore(_signum: int, _frame: object) -> None:
    """Have the signal noticed, by way of the wake-up descriptor."""


def childless() -> bool:
    """Whether nothing that this process has forked is left; what has ended is reaped."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return True
    return False
