"""What ps(1) shows of a process: its name and its command line."""

from __future__ import annotations

import ctypes
import os


class Title:
    """The memory that the command line was in when the process was executed; what is written there is what ps shows.

    Without CAP_SYS_RESOURCE it can't be moved (prctl(2), PR_SET_MM), so a longer text is cut. Source: proc_pid_stat(5), arg_start.
    """

    def __init__(self) -> None:
        """Find the memory; done before the first fork."""
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self._start, end = int(fields[45]), int(fields[46])
        self._size = end - self._start

    def set(self, name: str, command_line: str) -> None:
        """Show ``name`` (at most 15 bytes) and ``command_line``."""
        with open("/proc/self/comm", "wb", buffering=0) as file:
            file.write(os.fsencode(name))
        text = os.fsencode(command_line)[: self._size - 1]
        ctypes.memmove(self._start, text.ljust(self._size, b"\0"), self._size)
