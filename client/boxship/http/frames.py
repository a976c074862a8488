"""Websocket frames, without any I/O.

Our own because importing a library for them took an eighth of a command's time; the tests hold it against one.
Source: RFC 6455, section 5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from boxship.errors import ProtocolError

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_KNOWN = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_FINAL = 0x80
_MASKED = 0x80
_LONGEST_CONTROL = 125


def encode(opcode: int, payload: bytes) -> bytes:
    """A whole message in one frame, masked as a client's must be."""
    size = len(payload)
    if size < 126:
        length = bytes((_MASKED | size,))
    elif size < 1 << 16:
        length = bytes((_MASKED | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((_MASKED | 127,)) + size.to_bytes(8, "big")
    key = os.urandom(4)
    return bytes((_FINAL | opcode,)) + length + key + _mask(payload, key)


def _mask(payload: bytes, key: bytes) -> bytes:
    """The payload with each byte changed by the key's; as one large number, which the interpreter does at C's speed."""
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")).to_bytes(size, "little")


class FrameReader:
    """Takes a server's frames apart. What a data frame holds is passed on as it comes, in parts where it comes in parts."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._opcode = 0
        # Bytes to come of the frame that was begun.
        self._left = 0
        # Whether a message's later frames are still to come.
        self._continued = False

    @property
    def between_messages(self) -> bool:
        """Whether the message whose payload was passed on last is whole."""
        return not self._left and not self._continued

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """What ``data`` and what was left of earlier bytes hold, as (opcode, payload); control frames come whole.

        Raises:
            ProtocolError: the server broke the protocol.
        """
        self._buffer += data
        while True:
            if self._left:
                if not self._buffer:
                    return
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                yield self._opcode, piece
                continue
            begin = self._begin()
            if begin is None:
                return
            opcode, size, start = begin
            if opcode < CLOSE:
                del self._buffer[:start]
                self._opcode, self._left = opcode, size
            elif len(self._buffer) < start + size:
                return
            else:
                payload = bytes(self._buffer[start : start + size])
                del self._buffer[: start + size]
                yield opcode, payload
            if opcode < CLOSE and not size:
                yield opcode, b""

    def _begin(self) -> tuple[int, int, int] | None:
        """The next frame's opcode, the length of its payload and where that begins; None where its head isn't whole."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, size = first & 0x0F, second & 0x7F
        if first & 0x70 or opcode not in _KNOWN:
            raise _broken(f"a frame of an unknown kind: {first:#04x}")
        if second & _MASKED:
            raise _broken("a masked frame")
        if opcode >= CLOSE and (size > _LONGEST_CONTROL or not first & _FINAL):
            raise _broken("a control frame that is too long, or in parts")
        if opcode == CLOSE and size == 1:
            raise _broken("half a reason for closing")
        start = {126: 4, 127: 10}.get(size, 2)
        if len(buffer) < start:
            return None
        if size > _LONGEST_CONTROL:
            size = int.from_bytes(buffer[2:start], "big")
            if size >> 63:
                raise _broken("a frame of an impossible length")
        if opcode < CLOSE:
            if (opcode == CONTINUATION) is not self._continued:
                raise _broken("a message that begins within another, or continues none")
            self._continued = not first & _FINAL
        return opcode, size, start


def _broken(what: str) -> ProtocolError:
    return ProtocolError(f"the daemon broke the websocket protocol: {what}")
