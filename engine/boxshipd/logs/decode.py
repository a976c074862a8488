"""Turning a log file's bytes back into what the container wrote, a chunk of whole entries at a time.

Most logs are plain lines of one stream, and those are turned back with a single substitution over the whole chunk; anything
else goes entry by entry. Both give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Literal, NamedTuple, Protocol

import msgspec
from boxrun.container.spec import Log
from boxrun.shim.logs import FRAME_HEAD, FRAME_TAIL

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
        stream: re.compile(rb'\\n","stream":"%s","time":"[0-9T:.Z-]{30}"\}\n\{"log":"' % stream.encode()) for stream in _STREAMS
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
        text = self._separator[stream].sub(b"\n", data[8 : end.start()])
        # A quote or backslash that is left means an entry of another shape.
        if b"\\" in text or b'"' in text:
            return None
        return stream, text + b"\n"

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
    """The ``local`` format (see ``boxrun.shim.logs``)."""

    def __init__(self, attrs: dict[str, str]) -> None:
        self._attrs = attrs

    def whole(self, data: bytes) -> int:
        """Up to the end of the last complete frame."""
        at = 0
        while len(data) - at >= FRAME_HEAD.size:
            size = FRAME_HEAD.unpack_from(data, at)[0]
            end = at + FRAME_HEAD.size + size + FRAME_TAIL.size
            if end > len(data):
                break
            at = end
        return at

    def plain(self, data: bytes) -> tuple[Stream, bytes] | None:
        """Frames are cheap to take one by one."""
        return None

    def entries(self, data: bytes) -> Iterator[Entry]:
        """Each line of each frame."""
        at = 0
        while at < len(data):
            size, number, _flags, time = FRAME_HEAD.unpack_from(data, at)
            at += FRAME_HEAD.size
            stream: Stream = "stdout" if number == 1 else "stderr"
            for line in _lines(data[at : at + size]):
                yield Entry(stream, time, line, self._attrs)
            at += size + FRAME_TAIL.size

    def tail(self, read_at: ReadAt, size: int, lines: int) -> tuple[int, int]:
        """Walk back over frames by the length that each ends with."""
        end, found = size, 0
        while end > 0 and found < lines:
            (length,) = FRAME_TAIL.unpack(read_at(end - FRAME_TAIL.size, FRAME_TAIL.size))
            end -= FRAME_HEAD.size + length + FRAME_TAIL.size
            payload = read_at(end + FRAME_HEAD.size, length)
            found += payload.count(b"\n") + (not payload.endswith(b"\n"))
        return end, found


def _lines(payload: bytes) -> list[bytes]:
    # Not splitlines: a carriage return ends no line of a log.
    lines = [line + b"\n" for line in payload.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def decoder(log: Log) -> Decoder:
    """The decoder for ``log``'s format."""
    return LocalFrames(log.attrs) if log.driver == "local" else JSONLines()


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
