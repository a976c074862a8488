"""The ``json-file`` driver: byte for byte what Docker's driver of that name writes, one JSON object a line.

A read is framed at once, with a few passes at memory speed, never line by line.
"""

from __future__ import annotations

import codecs
import os
import time

from boxrun.container.spec import Log
from boxrun.shim.logs.files import FileLog
from boxrun.shim.logs.writer import Stream

# What a JSON string holds unescaped in Docker's encoding, and the newline, which framing replaces anyway.
_PLAIN = bytes(b for b in range(0x20, 0x80) if b not in b'"\\<>&') + b"\n"
_ESCAPES = tuple(
    (bytes((b,)), {0x22: b'\\"', 0x5C: b"\\\\", 0x0D: b"\\r"}.get(b, b"\\u%04x" % b))
    # The backslash comes first: the other escapes bring backslashes of their own.
    for b in (0x5C, 0x22, 0x3C, 0x3E, 0x26, *(b for b in range(0x20) if b != 0x0A))
)
_LINE_SEPARATORS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


def _replace_invalid(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\\ufffd" * (error.end - error.start), error.end


# Go's encoder writes one escape for each byte that is not UTF-8.
codecs.register_error("boxrun.jsonlog", _replace_invalid)


class JSONFileLog(FileLog):
    """The ``json-file`` driver. Source: Docker's jsonfilelog and its jsonlog encoding."""

    def __init__(self, log: Log) -> None:
        attrs = b",".join(b'"%s":"%s"' % (escape(k.encode()), escape(v.encode())) for k, v in sorted(log.attrs.items()))
        self._attrs = b'"attrs":{%s},' % attrs if attrs else b""
        self._second = -1
        self._second_text = b""
        super().__init__(log)

    def _frame(self, stream: Stream, data: bytes, *, final: bool) -> bytes:
        # For a chunk without anything to escape, translate leaves nothing: one pass at memory speed.
        if data.translate(None, _PLAIN):
            data = escape(data)
        tail = b'","stream":"%s",%s"time":"%s"}\n' % (stream.encode(), self._attrs, self._timestamp(time.time_ns()))
        if data.endswith(b"\n"):
            return b'{"log":"' + data[:-1].replace(b"\n", b"\\n" + tail + b'{"log":"') + b"\\n" + tail
        return b'{"log":"' + data.replace(b"\n", b"\\n" + tail + b'{"log":"') + tail

    def _break(self, framed: bytes, room: int) -> int:
        return framed.find(b"\n") + 1 if room < 0 else framed.rfind(b"\n", 0, room) + 1

    def _left(self, framed: bytes, written: int, count: int) -> int:
        return framed.count(b"\n", written)

    def _messages(self, framed: bytes) -> int:
        return framed.count(b"\n")

    def _whole(self, fd: int, size: int) -> int:
        end = size
        while end > 0:
            begin = max(0, end - 65536)
            newline = os.pread(fd, end - begin, begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
        return 0

    def _timestamp(self, now: int) -> bytes:
        second, fraction = divmod(now, 1_000_000_000)
        if second != self._second:
            t = time.gmtime(second)
            self._second = second
            self._second_text = b"%04d-%02d-%02dT%02d:%02d:%02d." % (t[0], t[1], t[2], t[3], t[4], t[5])
        return self._second_text + b"%09dZ" % fraction


def escape(data: bytes) -> bytes:
    """Return ``data`` as Docker escapes it inside a JSON string, its newlines left as they are.

    What is not UTF-8 becomes ``\\ufffd``, one for each byte. Source: Docker's jsonlogbytes.go.
    """
    present = set(data.translate(None, _PLAIN))
    for plain, escaped in _ESCAPES:
        if plain[0] in present:
            data = data.replace(plain, escaped)
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode("utf-8", "boxrun.jsonlog").encode()
        for plain, escaped in _LINE_SEPARATORS:
            data = data.replace(plain, escaped)
    return data
