"""The compact binary frames of the ``local`` format: a whole read in each.

They are what the ``local`` driver's files and the caches of sending drivers hold, and what a shim hands to the process that
sends its container's log away (``boxrun.shim.logs.sender``).
"""

from __future__ import annotations

import struct

from boxrun.shim.logs.writer import Stream

FRAME_HEAD = struct.Struct(">IBBQ")
"""A frame's head: payload bytes, stream (1 stdout, 2 stderr), flags, time in ns since the epoch.

The payload follows, then its length once more (``FRAME_TAIL``), so that a reader can walk backwards.
"""

FRAME_TAIL = struct.Struct(">I")

PARTIAL = 1
"""Flag of a frame whose payload does not end a line."""

FINAL = 2
"""Flag beside ``PARTIAL``: the line has no end, for the output ended first."""

MAX_PAYLOAD = 8 << 20
"""More than a payload ever has: a line below the limit and the largest read. A head that says more is damaged."""

STREAM_NUMBER: dict[Stream, int] = {"stdout": 1, "stderr": 2}


def frame(stream: Stream, data: bytes, time: int, *, final: bool = False) -> bytes:
    """``data`` as a frame.

    Args:
        stream: where it came from.
        data: whole lines, or the beginning of one.
        time: ns since the epoch.
        final: the last line has no end because the output has ended.
    """
    flags = 0 if data.endswith(b"\n") else PARTIAL | FINAL if final else PARTIAL
    return FRAME_HEAD.pack(len(data), STREAM_NUMBER[stream], flags, time) + data + FRAME_TAIL.pack(len(data))


def messages(framed: bytes) -> int:
    """How many lines or pieces of lines a frame holds."""
    payload = memoryview(framed)[FRAME_HEAD.size : -FRAME_TAIL.size]
    return framed.count(b"\n", FRAME_HEAD.size, len(framed) - FRAME_TAIL.size) + (bool(payload) and payload[-1] != 0x0A)
