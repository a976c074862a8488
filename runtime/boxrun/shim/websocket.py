"""The server's side of RFC 6455 after the handshake, without I/O: what a shim needs to serve a terminal in a browser.

Payloads are passed on as they arrive, not message by message: a terminal has no use for whole messages, and nothing piles up.
"""

from __future__ import annotations

from typing import Literal

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

NORMAL_CLOSURE = 1000
PROTOCOL_ERROR = 1002

Event = tuple[Literal["data", "ping", "close", "empty"], bytes]
"""``data`` with a piece of payload; ``ping`` with its payload; ``close`` with the answer's body; ``empty``: no payload."""


class ProtocolError(Exception):
    """The peer broke the protocol; the connection ends with a close frame of code 1002."""


def frame(opcode: int, payload: bytes) -> bytes:
    """An unmasked, final frame, as a server sends it."""
    return frame_head(opcode, len(payload)) + payload


def frame_head(opcode: int, size: int) -> bytes:
    """The head of an unmasked, final frame with ``size`` bytes of payload."""
    first = bytes((0x80 | opcode,))
    if size < 126:
        return first + bytes((size,))
    if size < 0x10000:
        return first + b"\x7e" + size.to_bytes(2, "big")
    return first + b"\x7f" + size.to_bytes(8, "big")


def close_frame(code: int) -> bytes:
    """A close frame with ``code``."""
    return frame(CLOSE, code.to_bytes(2, "big"))


def unmask(payload: bytes, mask: bytes, offset: int) -> bytes:
    """``payload``, which begins ``offset`` bytes into its frame, with its mask taken off."""
    size = len(payload)
    if not size:
        return b""
    turn = offset & 3
    keys = (mask[turn:] + mask[:turn]) * ((size + 3) // 4)
    return (int.from_bytes(payload, "little") ^ int.from_bytes(keys[:size], "little")).to_bytes(size, "little")


class Decoder:
    """Takes a client's bytes apart."""

    __slots__ = ("_buffer", "_closed", "_empty", "_fragmented", "_left", "_mask", "_offset")

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._offset = 0
        self._mask = b""
        self._fragmented = False
        self._empty = True
        self._closed = False

    def feed(self, data: bytes) -> list[Event]:
        """The events in ``data``, in order. After a close nothing more comes.

        Raises:
            ProtocolError: a frame that is not masked, has reserved bits or an unknown opcode, or breaks fragmentation's rules.
        """
        events: list[Event] = []
        buffer = self._buffer + data if self._buffer else data
        self._buffer = b""
        while buffer and not self._closed:
            if self._left:
                piece = buffer[: self._left]
                buffer = buffer[len(piece) :]
                events.append(("data", unmask(piece, self._mask, self._offset)))
                self._offset += len(piece)
                self._left -= len(piece)
                continue
            rest = self._frame(buffer, events)
            if rest is None:
                self._buffer = buffer
                break
            buffer = rest
        return events

    def _frame(self, buffer: bytes, events: list[Event]) -> bytes | None:
        """Take a frame's head (for a control frame, all of it) off ``buffer``; None where it isn't complete."""
        if len(buffer) < 2:
            return None
        final, opcode = bool(buffer[0] & 0x80), buffer[0] & 0x0F
        size = buffer[1] & 0x7F
        if buffer[0] & 0x70 or not buffer[1] & 0x80 or opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise ProtocolError("a client's frame must be masked, without reserved bits, and of a known kind")
        extra = {126: 2, 127: 8}.get(size, 0)
        start = 2 + extra + 4
        if len(buffer) < start:
            return None
        if extra:
            size = int.from_bytes(buffer[2 : 2 + extra], "big")
        mask = buffer[start - 4 : start]
        if opcode >= CLOSE:
            if not final or size > 125:
                raise ProtocolError("a control frame must be whole and short")
            if len(buffer) < start + size:
                return None
            events.extend(self._control(opcode, unmask(buffer[start : start + size], mask, 0)))
            return buffer[start + size :]
        if (opcode == CONTINUATION) != self._fragmented or size >> 63:
            raise ProtocolError("a fragment is out of place")
        self._empty = (opcode != CONTINUATION or self._empty) and size == 0
        self._fragmented = not final
        if final and self._empty:
            events.append(("empty", b""))
        self._left, self._mask, self._offset = size, mask, 0
        return buffer[start:]

    def _control(self, opcode: int, payload: bytes) -> list[Event]:
        """What a control frame comes to."""
        if opcode == PING:
            return [("ping", payload)]
        if opcode == PONG:
            return []
        if len(payload) == 1:
            raise ProtocolError("a close frame with half a code")
        self._closed = True
        return [("close", payload[:2])]
