"""Who in a container's pid namespace might look into a process that gets in there.

What is not dumpable is safe from everybody but those with CAP_SYS_PTRACE in the user namespace that its memory was made in,
which for whatever we fork is the host's. Sources: ptrace(2), "Ptrace access mode checking"; proc_pid_status(5).
"""

from __future__ import annotations

import os
from typing import Final

from boxrun.container.capabilities import CAPABILITIES
from boxrun.linux.process import number_of

_SYS_PTRACE: Final = 1 << CAPABILITIES["CAP_SYS_PTRACE"]


def may_trace(pidfd: int) -> bool:
    """Whether any process beside that of ``pidfd``, or itself, has or may get CAP_SYS_PTRACE; looks at all of the host's.

    Only for a container without a user namespace of its own.
    """
    first = number_of(pidfd)
    try:
        namespace = os.stat(f"/proc/{first}/ns/pid")
    except OSError:
        return True
    return any(
        _capable(entry)
        for entry in os.listdir("/proc")
        if entry.isdigit() and _is_in(entry, (namespace.st_dev, namespace.st_ino))
    )


def _is_in(entry: str, namespace: tuple[int, int]) -> bool:
    try:
        found = os.stat(f"/proc/{entry}/ns/pid")
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == namespace


def _capable(entry: str) -> bool:
    """Whether a process has the capability in its bounding set, without which nothing that it executes can give it."""
    try:
        with open(f"/proc/{entry}/status", "rb") as file:
            for line in file:
                if line.startswith((b"CapBnd:", b"CapPrm:")) and int(line.split()[1], 16) & _SYS_PTRACE:
                    return True
    except OSError:
        # It has ended.
        return False
    return False
