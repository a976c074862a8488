"""A terminal for the programs under test."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time


class Terminal:
    """A program on a pseudo terminal of its own."""

    def __init__(self, command: list[str], env: dict[str, str], rows: int = 30, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env | {"TERM": "xterm"},
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        os.write(self.master, data)

    def expect(self, what: bytes, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while what not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{what!r} did not come; seen {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[self.seen.index(what) + len(what) :]

    def end(self, *, restored: bool = True) -> int:
        """Wait for the program's end; it must have left the terminal as it was, where ``restored``."""
        code = self.process.wait(20)
        assert not restored or termios.tcgetattr(self.slave) == self.before, "the terminal was not restored"
        os.close(self.master)
        os.close(self.slave)
        return code
