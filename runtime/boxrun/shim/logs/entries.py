"""Taking frames apart into the lines that a sending driver sends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from boxrun.shim.logs.frames import FINAL, FRAME_HEAD, FRAME_TAIL, PARTIAL
from boxrun.shim.logs.writer import Stream


class Piece(NamedTuple):
    """Which piece of a line too long for one message this is: the line's id, the number from 1, and whether it ends it."""

    id: str
    ordinal: int
    last: bool


class Entry(NamedTuple):
    """A line without its newline: its stream, time in ns since the epoch, and which piece of a longer one it is."""

    stream: Stream
    time: int
    line: bytes
    piece: Piece | None = None


class Unframer:
    """Takes a stream of frames, however it is cut, and gives the entries."""

    __slots__ = ("_buffer", "_pieces")

    def __init__(self) -> None:
        self._buffer = b""
        self._pieces: dict[Stream, tuple[str, int]] = {}

    @property
    def unfinished(self) -> bool:
        """Whether the beginning of a frame is held."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Entry]:
        """The entries in ``data`` and what was held before it, one by one: all of them must be taken before the next call.

        A frame of empty lines is a million entries, which together would be a hundred times as large.
        """
        buffer = self._buffer + data if self._buffer else data
        at = 0
        while len(buffer) - at >= FRAME_HEAD.size:
            size, number, flags, time = FRAME_HEAD.unpack_from(buffer, at)
            begin = at + FRAME_HEAD.size
            end = begin + size + FRAME_TAIL.size
            if end > len(buffer):
                break
            yield from self._take("stdout" if number == 1 else "stderr", time, flags, buffer[begin : begin + size])
            at = end
        self._buffer = buffer[at:]

    def _take(self, stream: Stream, time: int, flags: int, payload: bytes) -> Iterator[Entry]:
        if flags & PARTIAL and not flags & FINAL:
            id_, ordinal = self._pieces.get(stream) or (os.urandom(32).hex(), 0)
            self._pieces[stream] = id_, ordinal + 1
            yield Entry(stream, time, payload, Piece(id_, ordinal + 1, False))
            return
        begun = self._pieces.pop(stream, None)
        piece = None if begun is None else Piece(begun[0], begun[1] + 1, True)
        at = 0
        while at < len(payload) or piece is not None:
            end = payload.find(b"\n", at)
            if end < 0:
                end = len(payload)
            yield Entry(stream, time, payload[at:end], piece)
            piece, at = None, end + 1
