"""A container's standard streams, at its shim's end: pipes, or a terminal."""

from __future__ import annotations

import os
from fcntl import ioctl
from struct import pack

from boxrun.shim.clients import Stream
from boxrun.shim.protocol import Role

_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441


class Streams:
    """Where the container's input goes, and where its output comes from.

    Attributes:
        stdin: None where the container gets no input.
        outputs: what comes from each descriptor.
        console: the terminal's master, -1 without a terminal.
    """

    __slots__ = ("_slave", "console", "outputs", "stdin")

    def __init__(self) -> None:
        self.stdin: int | None = None
        self.outputs: dict[int, Stream] = {}
        self.console = -1
        self._slave = -1

    def pipes(self, *, open_stdin: bool) -> list[int]:
        """Make the pipes; returns the container's ends."""
        theirs = []
        if open_stdin:
            reader, self.stdin = os.pipe2(os.O_CLOEXEC)
            theirs.append(reader)
        else:
            theirs.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        streams: tuple[Stream, ...] = ("stdout", "stderr")
        for stream in streams:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            self.outputs[reader] = stream
            theirs.append(writer)
        return theirs

    def terminal(self, console: int, *, open_stdin: bool) -> None:
        """Have the terminal whose master is ``console``."""
        self.console = console
        # With our own hold on the other end, the terminal stays whatever the container's processes close.
        self._slave = ioctl(console, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self.stdin = os.dup(console) if open_stdin else None
        self.outputs[console] = "stdout"

    def resize(self, height: int, width: int) -> None:
        """Set the terminal's size in characters. Raises OSError."""
        ioctl(self.console, _TIOCSWINSZ, pack("4H", height & 0xFFFF, width & 0xFFFF, 0, 0))

    def release_terminal(self) -> None:
        """Let go of the container's end of the terminal, which ends once the container's processes have done so too."""
        if self._slave >= 0:
            os.close(self._slave)

    def roles(self) -> list[tuple[Role, int]]:
        """Every descriptor, for a successor's ``resume``."""
        roles: list[tuple[Role, int]] = []
        if self.console >= 0:
            roles += [("console", self.console), ("slave", self._slave)]
        else:
            roles += [(stream, fd) for fd, stream in self.outputs.items()]
        if self.stdin is not None:
            roles.append(("stdin", self.stdin))
        return roles

    def resume(self, role: Role, fd: int) -> None:
        """Take over a predecessor's descriptor, if it is one of these."""
        match role:
            case "stdout" | "stderr":
                self.outputs[fd] = role
            case "stdin":
                self.stdin = fd
            case "console":
                self.console = fd
                self.outputs[fd] = "stdout"
            case "slave":
                self._slave = fd
            case _:
                pass

    def close(self) -> None:
        """Let go of everything, where nothing has come of the container."""
        for fd in (*self.outputs, self.stdin):
            if fd is not None:
                os.close(fd)
