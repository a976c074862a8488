"""kill -9 of the processes that a daemon is made of."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from support.daemon import Daemon, wait_until


def kill(daemon: Daemon, victim: str) -> None:
    """kill -9 one of the daemon's processes; a dead boxshipd is started again."""
    if victim == "boxshipd":
        daemon.kill()
        daemon.start()
        return
    before = daemon.supervisor_pid() if victim == "supervisor" else daemon.zygote_pid()
    os.kill(before, signal.SIGKILL)
    current = daemon.supervisor_pid if victim == "supervisor" else daemon.zygote_pid
    wait_until(lambda: _replaced(current, before), f"a new {victim} is there")


def _replaced(current: Callable[[], int], before: int) -> bool:
    try:
        pid = current()
    except (IndexError, ValueError, OSError):
        # Between its making and its first line.
        return False
    return pid != before and Path(f"/proc/{pid}").exists()
