"""The ``local`` driver: compact binary frames, a whole read in each."""

from __future__ import annotations

import os
import time

from boxrun.shim.logs.files import FileLog
from boxrun.shim.logs.frames import FRAME_HEAD, FRAME_TAIL, frame, messages
from boxrun.shim.logs.writer import Stream


class LocalLog(FileLog):
    """The ``local`` driver, and the cache of the drivers that send."""

    def _frame(self, stream: Stream, data: bytes, *, final: bool) -> bytes:
        return frame(stream, data, time.time_ns(), final=final)

    def _break(self, framed: bytes, room: int) -> int:
        # One call brings one frame; it goes whole into the next file.
        return len(framed) if room < 0 or room >= len(framed) else 0

    def _whole(self, fd: int, size: int) -> int:
        head, tail = FRAME_HEAD.size, FRAME_TAIL.size
        if size >= head + tail:
            length = os.pread(fd, tail, size - tail)
            begin = size - tail - FRAME_TAIL.unpack(length)[0] - head
            if begin >= 0 and os.pread(fd, tail, begin) == length:
                return size
        at = 0
        while size - at >= head + tail:
            end: int = at + head + FRAME_HEAD.unpack(os.pread(fd, head, at))[0] + tail
            if end > size:
                break
            at = end
        return at

    def _left(self, framed: bytes, written: int, count: int) -> int:
        # A frame of which anything is missing is nothing.
        return count

    def _messages(self, framed: bytes) -> int:
        return messages(framed)
