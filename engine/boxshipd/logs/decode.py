"""Turning a log file's bytes back into what the container wrote, a chunk of whole entries at a time.

Most logs are plain lines of one stream, and those are turned back with a single split of the whole chunk; anything
else goes entry by entry. Both give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Literal, NamedTuple, Protocol

import msgspec
from boxrun.container.spec import Log
from boxrun.shim.logs import FINAL, FRAME_HEAD, FRAME_TAIL, MAX_PAYLOAD, PARTIAL

Stream = Literal["stdout", "stderr"]


_STREAMS: tuple[Stream, ...] = ("stdout", "stderr")


class Entry(NamedTuple):
    """One piece of output: its stream, time in ns since the epoch, bytes, and the attributes logged with it."""

    stream: Stream
    time: int
    data: bytes
    attrs: dict[str, str]


class Decoder(Protocol):
    """A log format."""

    def whole(self, data: bytes) -> int:
        """How many of ``data``'s bytes are complete entries."""

    def entries(self, data: bytes) -> Iterator[Entry]:
        """The entries that ``data``, complete ones all, holds."""

    def plain(self, data: bytes) -> tuple[Stream, bytes] | None:
        """All that ``data`` holds where it is of one stream, else None. Only ever a faster way to the same bytes."""

    def tail(self, read_at: ReadAt, size: int, lines: int) -> tuple[int, int]:
        """Where the last ``lines`` lines begin in a file of ``size`` bytes, and how many lines were found from there.

        The offset is at an entry's start, so the first entry may hold more lines than asked for.
        """


class ReadAt(Protocol):
    """Reads ``size`` bytes at ``offset`` of a file."""

    def __call__(self, offset: int, size: int, /) -> bytes:
        """The bytes."""


class _JSONLine(msgspec.Struct):
    log: str = ""
    stream: Stream = "stdout"
    time: str = ""
    attrs: dict[str, str] = {}


class JSONLines:
    """The ``json-file`` format, as this engine and as Docker write it."""

    _decoder: ClassVar = msgspec.json.Decoder(_JSONLine)
    _separator: ClassVar[dict[Stream, re.Pattern[bytes]]] = {
        # Any thirty bytes: to look at each costs as much as all the rest. A shorter time can't match: the next entry's
        # beginning would have to lie in its middle. One that a bad disk has damaged does, and its line is told all the same.
        stream: re.compile(rb'\\n","stream":"%s","time":".{30}"\}\n\{"log":"' % stream.encode(), re.DOTALL)
        for stream in _STREAMS
    }
    _end: ClassVar = re.compile(rb'\\n","stream":"(stdout|stderr)","time":"[0-9T:.Z-]{30}"\}\n\Z')

    def whole(self, data: bytes) -> int:
        """Up to the last newline."""
        return data.rfind(b"\n") + 1

    def plain(self, data: bytes) -> tuple[Stream, bytes] | None:
        """Plain where nothing but the end of each line is escaped, and all of one stream."""
        end = self._end.search(data, max(0, len(data) - 90))
        if end is None or not data.startswith(b'{"log":"'):
            return None
        stream: Stream = "stdout" if end[1] == b"stdout" else "stderr"
        lines = self._separator[stream].split(data)
        lines[-1] = lines[-1][: end.start() - len(data)]
        lines[0] = lines[0][8:]
        lines.append(b"")
        text = b"\n".join(lines)
        # A quote or backslash that is left means an entry of another shape.
        if b"\\" in text or b'"' in text:
            return None
        return stream, text

    def entries(self, data: bytes) -> Iterator[Entry]:
        """One entry a line; a line that isn't JSON (a torn write before a crash) is passed over."""
        for line in data.splitlines():
            try:
                row = self._decoder.decode(line)
            except msgspec.DecodeError:
                continue
            yield Entry(row.stream, parse_time(row.time), row.log.encode("utf-8", "surrogatepass"), row.attrs)

    def tail(self, read_at: ReadAt, size: int, lines: int) -> tuple[int, int]:
        """Walk back over newlines."""
        end, found = size, 0
        while end > 0:
            start = max(0, end - (1 << 16))
            block = read_at(start, end - start)
            count = block.count(b"\n")
            if found + count > lines:
                at = len(block)
                # The newline that ends the line before the first one wanted.
                for _ in range(lines - found + 1):
                    at = block.rfind(b"\n", 0, at)
                return start + at + 1, lines
            found += count
            end = start
        return 0, found


class LocalFrames:
    """The ``local`` format (see ``boxrun.shim.logs.frames``).

    What is no frame, as a crash or a bad disk leaves it, is passed over up to the next one.
    """

    # A head as it can be: a length below 16 MiB, a stream, flags, and a time between the years 2000 and 2100.
    _head: ClassVar = re.compile(rb"\0[\0-\xff]{3}[\x01\x02][\0-\x03][\x0d-\x38]", re.DOTALL)

    def __init__(self, attrs: dict[str, str]) -> None:
        self._attrs = attrs

    def _frame_at(self, data: bytes, at: int) -> int:
        """The end of the frame at ``at``; -1 where none begins there, 0 where it may go on past ``data``."""
        if len(data) - at < FRAME_HEAD.size:
            return 0
        size, number, flags, _ = FRAME_HEAD.unpack_from(data, at)
        if size > MAX_PAYLOAD or number not in (1, 2) or flags & ~(PARTIAL | FINAL):
            return -1
        end: int = at + FRAME_HEAD.size + size + FRAME_TAIL.size
        if end > len(data):
            return 0
        return end if FRAME_TAIL.unpack_from(data, end - FRAME_TAIL.size)[0] == size else -1

    def _next_frame(self, data: bytes, at: int) -> int:
        """Where the first whole frame after ``at`` begins; -1 where there is none."""
        for match in self._head.finditer(data, at):
            if self._frame_at(data, match.start()) > 0:
                return match.start()
        return -1

    def whole(self, data: bytes) -> int:
        """Up to the end of the last complete frame."""
        at = 0
        while True:
            end = self._frame_at(data, at)
            if end < 0:
                end = self._next_frame(data, at + 1)
            if end <= 0:
                return at
            at = end

    def plain(self, data: bytes) -> tuple[Stream, bytes] | None:
        """Frames are cheap to take one by one."""
        return None

    def entries(self, data: bytes) -> Iterator[Entry]:
        """Each line of each frame."""
        at = 0
        while at < len(data):
            end = self._frame_at(data, at)
            if end <= 0:
                at = self._next_frame(data, at + 1)
                if at < 0:
                    return
                continue
            _, number, _, time = FRAME_HEAD.unpack_from(data, at)
            stream: Stream = "stdout" if number == 1 else "stderr"
            for line in _lines(data[at + FRAME_HEAD.size : end - FRAME_TAIL.size]):
                yield Entry(stream, time, line, self._attrs)
            at = end

    def tail(self, read_at: ReadAt, size: int, lines: int) -> tuple[int, int]:
        """Walk back over frames by the length that each ends with."""
        end, found = size, 0
        while end > 0 and found < lines:
            begin = self._frame_before(read_at, end)
            if begin < 0:
                return self._tail_forward(read_at, size, lines)
            payload = read_at(begin + FRAME_HEAD.size, end - begin - FRAME_HEAD.size - FRAME_TAIL.size)
            found += payload.count(b"\n") + (not payload.endswith(b"\n"))
            end = begin
        return end, found

    def _frame_before(self, read_at: ReadAt, end: int) -> int:
        """Where the frame that ends at ``end`` begins; -1 where none does."""
        tail = read_at(end - FRAME_TAIL.size, FRAME_TAIL.size) if end >= FRAME_TAIL.size else b""
        if len(tail) < FRAME_TAIL.size:
            return -1
        length: int = FRAME_TAIL.unpack(tail)[0]
        begin = end - FRAME_HEAD.size - length - FRAME_TAIL.size
        head = read_at(begin, FRAME_HEAD.size) if begin >= 0 else b""
        if len(head) < FRAME_HEAD.size or head[:4] != tail:
            return -1
        return begin

    def _tail_forward(self, read_at: ReadAt, size: int, lines: int) -> tuple[int, int]:
        """``tail`` for a damaged file, whose frames can only be found from the front."""
        data = read_at(0, size)
        begins: list[tuple[int, int]] = []
        at = 0
        while at >= 0 and at < len(data):
            end = self._frame_at(data, at)
            if end > 0:
                payload = data[at + FRAME_HEAD.size : end - FRAME_TAIL.size]
                begins.append((at, payload.count(b"\n") + (not payload.endswith(b"\n"))))
            at = end if end > 0 else self._next_frame(data, at + 1)
        found = 0
        for begin, count in reversed(begins):
            found += count
            if found >= lines:
                return begin, found
        return 0, found


def _lines(payload: bytes) -> list[bytes]:
    # Not splitlines: a carriage return ends no line of a log.
    lines = [line + b"\n" for line in payload.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def decoder(log: Log) -> Decoder:
    """The decoder for ``log``'s format."""
    return JSONLines() if log.driver == "json-file" else LocalFrames(log.attrs)


def parse_time(text: str) -> int:
    """RFC 3339 with up to nine decimals, in UTC, as ns since the epoch; 0 for what isn't one."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    try:
        seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
        return seconds * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
    except ValueError:
        return 0


def format_time(time: int) -> bytes:
    """Ns since the epoch as RFC 3339 with nine decimals."""
    seconds, fraction = divmod(time, 1_000_000_000)
    return b"%s.%09dZ" % (datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode(), fraction)
