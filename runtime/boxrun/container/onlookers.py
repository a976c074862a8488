"""Who in a pid namespace might look into a process that gets in there.

What is not dumpable is safe from everybody but those with CAP_SYS_PTRACE in the user namespace that its memory was made in,
which for whatever we fork is our own. Sources: ptrace(2), "Ptrace access mode checking"; proc_pid_status(5).
"""

from __future__ import annotations

import os
from typing import Final

from boxrun.container.capabilities import CAPABILITIES
from boxrun.linux.process import number_of

_SYS_PTRACE: Final = 1 << CAPABILITIES["CAP_SYS_PTRACE"]


def may_trace(fd: int) -> bool:
    """Whether a process in a pid namespace has or may get CAP_SYS_PTRACE. All of the host's processes are looked at.

    Args:
        fd: the namespace, or the pid descriptor of a process in it.
    """
    try:
        namespace = _identity(os.stat(f"/proc/{number_of(fd)}/ns/pid"))
    except ValueError:
        namespace = _identity(os.fstat(fd))
    except FileNotFoundError:
        # It has ended, and nobody gets in there any more.
        return False
    own = _identity(os.stat("/proc/self/ns/user"))
    return any(_is_tracer(entry, namespace, own) for entry in os.listdir("/proc") if entry.isdigit())


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_tracer(entry: str, pid_namespace: tuple[int, int], user_namespace: tuple[int, int]) -> bool:
    """Whether a process is there and has it in its bounding set, without which nothing that it executes can give it."""
    try:
        if _identity(os.stat(f"/proc/{entry}/ns/pid")) != pid_namespace:
            return False
        if _identity(os.stat(f"/proc/{entry}/ns/user")) != user_namespace:
            return False
        with open(f"/proc/{entry}/status", "rb") as file:
            sets = [int(line.split()[1], 16) for line in file if line.startswith((b"CapBnd:", b"CapPrm:"))]
    except OSError:
        # It has ended; or it is out of our own reach, so that it is nobody's that we have started.
        return False
    return any(bits & _SYS_PTRACE for bits in sets)
