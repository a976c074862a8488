"""What ps(1) shows of a process: its name and its command line."""

from __future__ import annotations

import os


class Title:
    """The memory that the command line was in when the process was executed; what is written there is what ps shows.

    Without CAP_SYS_RESOURCE it can't be moved (prctl(2), PR_SET_MM), so a longer text is cut. Source: proc_pid_stat(5),
    arg_start.
    """

    def __init__(self) -> None:
        """Find the memory; done before the first fork."""
        fields = _read("/proc/self/stat").rpartition(b")")[2].split()
        self._start, end = int(fields[45]), int(fields[46])
        self._size = end - self._start

    def set(self, process: int, name: bytes, subject: str = "") -> None:
        """Have the command line of ``process``, this one or one forked from it, say ``name`` and ``subject``."""
        text = name + b" " + subject.encode()
        fd = os.open(f"/proc/{process}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(fd, text[: self._size - 1].ljust(self._size, b"\0"), self._start)
        finally:
            os.close(fd)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
