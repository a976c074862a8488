"""What a shim asks of a log, and the part that every log shares: putting reads together to lines.

A line is kept whole up to ``MAX_LINE`` bytes; a longer one is written in pieces without the closing newline, as Docker does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from msgspec import Struct

from boxrun.shim.poller import Poller

Stream = Literal["stdout", "stderr"]

MAX_LINE = 1 << 20
"""Bytes that a line may have before it is written in pieces."""

SUSPEND_LIMIT = 65536
"""Bytes of an unfinished line that a suspended writer may leave to its successor."""


class Position(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a log is written: the bytes in its file, known by inode number, and the beginnings of lines that are held."""

    inode: int = 0
    offset: int = 0
    begun: dict[Stream, bytes] = {}


class LogWriter(Protocol):
    """Where a container's output goes."""

    dropped: int
    """Messages given up in non-blocking mode, by a driver that can't deliver them, or at close with a disk that refused."""

    @property
    def channel(self) -> int:
        """A descriptor that a successor needs beside the log's file; -1 for none."""

    @property
    def stalled(self) -> bool:
        """True while nothing more can be taken: read no more output until it changes."""

    @property
    def waiting(self) -> bool:
        """True while something is held that ``retry`` may get rid of."""

    @property
    def pending(self) -> bool:
        """True while so much is held that is not in the file yet that the writer can't be suspended."""

    def serve(self, poller: Poller, changed: Callable[[], None]) -> None:
        """Wait with ``poller`` for what the log itself waits for, and call ``changed`` where that may have ended a stall."""

    def position(self) -> Position:
        """How far the log is written."""

    def suspend(self) -> dict[Stream, bytes]:
        """Close the file, and return the beginnings of lines that are held: a successor is to be given them first."""

    def write(self, stream: Stream, data: bytes) -> None:
        """Take ``data`` as read from ``stream``. Never raises for a full disk."""

    def retry(self) -> bool:
        """Try again what is held; True when nothing is left of it."""

    def close(self) -> None:
        """Write what is held back (a last line without its newline) and close."""


class NoLog:
    """The ``none`` driver: output is only for attached clients."""

    dropped = 0
    channel = -1
    stalled = False
    waiting = False
    pending = False

    def serve(self, poller: Poller, changed: Callable[[], None]) -> None:
        """Nothing is waited for."""

    def position(self) -> Position:
        """Nothing is written."""
        return Position()

    def suspend(self) -> dict[Stream, bytes]:
        """Nothing is ever held."""
        return {}

    def write(self, stream: Stream, data: bytes) -> None:
        """Forget ``data``."""

    def retry(self) -> bool:
        """Nothing is ever held."""
        return True

    def close(self) -> None:
        """Nothing is open."""


class LineLog:
    """What every real log shares: reads go on as whole lines, as many at once as there are."""

    def __init__(self) -> None:
        self.dropped = 0
        # Not lists of what was read: a line may come a byte at a time, and each would be an object.
        self._held: dict[Stream, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

    @property
    def channel(self) -> int:
        """Files need nothing beside them."""
        return -1

    def _take(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        """Write ``data``, whole lines or a piece of one; ``final`` where the line's end will never come."""
        raise NotImplementedError

    def serve(self, poller: Poller, changed: Callable[[], None]) -> None:
        """Nothing is waited for, unless a driver has something."""

    @property
    def _begun_is_large(self) -> bool:
        return max(map(len, self._held.values())) > SUSPEND_LIMIT

    def _begun(self) -> dict[Stream, bytes]:
        """The beginnings of lines that are held."""
        return {stream: bytes(held) for stream, held in self._held.items() if held}

    def _release_begun(self) -> dict[Stream, bytes]:
        """The beginnings of lines that are held, and no longer are."""
        begun = self._begun()
        for held in self._held.values():
            held.clear()
        return begun

    def write(self, stream: Stream, data: bytes) -> None:
        """Pass on the lines that ``data`` completes; hold back the start of the next one."""
        held = self._held[stream]
        end = data.rfind(b"\n") + 1
        if end and held and len(held) + (first := data.find(b"\n")) > MAX_LINE:
            # What completes the line makes it too long for one piece.
            held += data[:first]
            self._write_pieces(stream)
            data, end = data[first:], end - first
        if end == 0:
            held += data
        else:
            whole = data if end == len(data) else data[:end]
            if held:
                whole = b"".join((held, whole))
                held.clear()
            if end < len(data):
                held += data[end:]
            self._take(stream, whole)
        if len(held) >= MAX_LINE:
            self._write_pieces(stream)

    def _write_pieces(self, stream: Stream) -> None:
        """Write a line that has grown past MAX_LINE in pieces that end between characters."""
        held = self._held[stream]
        whole = bytes(held)
        held.clear()
        while len(whole) >= MAX_LINE:
            cut = MAX_LINE
            while cut > MAX_LINE - 4 and cut < len(whole) and whole[cut] & 0xC0 == 0x80:
                cut -= 1
            self._take(stream, whole[:cut])
            whole = whole[cut:]
        held += whole

    def _write_last_lines(self) -> None:
        """The output has ended: write the last lines without their newline."""
        for stream, begun in self._release_begun().items():
            self._take(stream, begun, final=True)
