"""The wire: frames, and the reader that cuts a byte stream into them.

A frame is a 16-byte little-endian header and a payload::

    u32 payload length | u8 kind | u8 flags | u16 file descriptors | u64 call

``file descriptors`` is how many SCM_RIGHTS descriptors, sent with the frame's first byte, belong to the frame.
``call`` is the number its client gave the call, rising from 1; 0 for the frames that concern the connection.

=========  =========  ================================================================================================
kind       sent by    payload
=========  =========  ================================================================================================
HELLO      both       magic, u16 version, u32 window and u32 largest payload its sender accepts; the first frame
OPEN       client     u8 length and name of the method, u32 deadline in ms (0: none), u16 length and msgpack map of the
                      metadata, and, but for calls whose client streams, the request
MESSAGE    both       a message; with END the last one of its sender, which for a server means status OK
STATUS     server     ends the call: empty for OK, else msgpack [code, message, detail's type, detail]
HALF       client     empty: no more messages from this side
CANCEL     client     empty: the call is over for the client
CREDIT     both       u32: as many more bytes may be sent on this call
PING       both       empty
PONG       both       empty
GOAWAY     server     empty: open no more calls on this connection
=========  =========  ================================================================================================

Frames of unknown kinds are ignored, so that neighbouring versions understand each other.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout
from typing import Final

import msgspec
from msgspec.msgpack import Decoder, Encoder

from boxrun.bus.status import MALFORMED, ProtocolError

HEADER: Final = Layout("<IBBHQ")
HEADER_SIZE: Final = HEADER.size
CREDIT_PAYLOAD: Final = Layout("<I")

HELLO: Final = 1
OPEN: Final = 2
MESSAGE: Final = 3
STATUS: Final = 4
HALF: Final = 5
CANCEL: Final = 6
CREDIT: Final = 7
PING: Final = 8
PONG: Final = 9
GOAWAY: Final = 10

END: Final = 1
"""The flag of a side's last frame with a message."""

MAX_FDS: Final = 253
"""The kernel's limit of descriptors in one sendmsg (SCM_MAX_FD)."""

LARGEST_DEADLINE: Final = 0xFFFFFFFF
"""Milliseconds; longer deadlines are as good as none and get shortened to it."""

_MAGIC: Final = b"boxrun"
_VERSION: Final = 1
_HELLO: Final = Layout(f"<{len(_MAGIC)}sHII")
_OPEN_REST: Final = Layout("<IH")
_encoder: Final = Encoder()
_metadata_decoder: Final = Decoder(dict[str, str])

Sink = Callable[[int, int, int, int, memoryview], None]
"""Takes a frame: kind, flags, number of descriptors, call, payload (valid only during the call)."""


class Hello(msgspec.Struct, frozen=True):
    """What a peer says first: the bytes it buffers per stream, and the largest payload it accepts."""

    window: int
    max_payload: int


class Opening(msgspec.Struct, frozen=True, gc=False):
    """An OPEN frame's payload, decoded. ``deadline`` is in ms, 0 for none; the request starts at ``offset``."""

    method: bytes
    deadline: int
    metadata: dict[str, str] | None
    offset: int


def encode_frame(kind: int, flags: int = 0, call: int = 0, payload: bytes = b"", fds: int = 0) -> bytes:
    """A whole frame as bytes."""
    return HEADER.pack(len(payload), kind, flags, fds, call) + payload


def encode_hello(hello: Hello) -> bytes:
    """A HELLO frame's payload."""
    return _HELLO.pack(_MAGIC, _VERSION, hello.window, hello.max_payload)


def decode_hello(payload: memoryview) -> Hello:
    """Read a HELLO frame's payload. Raises ProtocolError. Bytes that a newer version added are ignored."""
    if len(payload) < _HELLO.size:
        raise ProtocolError("malformed hello")
    magic, version, window, max_payload = _HELLO.unpack_from(payload)
    if magic != _MAGIC or version != _VERSION:
        raise ProtocolError(f"the peer speaks {magic!r} version {version}, not {_MAGIC!r} version {_VERSION}")
    if window < 1 or max_payload < 1:
        raise ProtocolError("malformed hello: no room for messages")
    return Hello(window, max_payload)


def encode_opening(method: bytes, deadline: int = 0, metadata: dict[str, str] | None = None) -> bytes:
    """An OPEN frame's payload up to the request.

    ``deadline`` in ms, 0 for none. Raises ValueError for a method's name above 255 bytes or metadata above 65535.
    """
    if len(method) > 0xFF:
        raise ValueError(f"method name too long: {method!r}")
    encoded = _encoder.encode(metadata) if metadata else b""
    if len(encoded) > 0xFFFF:
        raise ValueError(f"metadata too long: {len(encoded)} bytes")
    return bytes((len(method),)) + method + _OPEN_REST.pack(deadline, len(encoded)) + encoded


def decode_opening(payload: memoryview) -> Opening:
    """Read an OPEN frame's payload. Raises ProtocolError."""
    size = len(payload)
    named = 1 + payload[0] if size else 0
    offset = named + _OPEN_REST.size
    if not size or offset > size:
        raise ProtocolError("malformed opening")
    deadline, length = _OPEN_REST.unpack_from(payload, named)
    if not length:
        return Opening(bytes(payload[1:named]), deadline, None, offset)
    if offset + length > size:
        raise ProtocolError("malformed opening: metadata cut short")
    try:
        metadata = _metadata_decoder.decode(payload[offset : offset + length])
    except MALFORMED as error:
        raise ProtocolError(f"malformed metadata: {error}") from error
    return Opening(bytes(payload[1:named]), deadline, metadata, offset + length)


def decode_credit(payload: memoryview) -> int:
    """Read a CREDIT frame's payload. Raises ProtocolError."""
    if len(payload) < CREDIT_PAYLOAD.size:
        raise ProtocolError("malformed credit")
    granted: int = CREDIT_PAYLOAD.unpack_from(payload)[0]
    return granted


class FrameReader:
    """Cuts a byte stream into frames, in one reused buffer of bounded size.

    Receive into :meth:`room`, then :meth:`advance` by the number of bytes received.
    """

    ROOM: Final = 256 * 1024
    """Bytes of the buffer between large frames. Untouched pages of it cost nothing."""

    __slots__ = ("_buffer", "_end", "_max_payload", "_view")

    def __init__(self, max_payload: int) -> None:
        self._max_payload = max_payload
        self._buffer = bytearray(self.ROOM)
        self._view = memoryview(self._buffer)
        self._end = 0

    @property
    def partial(self) -> int:
        """How many bytes of an unfinished frame are held."""
        return self._end

    def release(self) -> None:
        """Give the buffer up: nothing more is received."""
        self._buffer = bytearray()
        self._view = memoryview(self._buffer)
        self._end = 0

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty before ``release``."""
        return self._view[self._end :]

    def advance(self, received: int, sink: Sink) -> None:
        """Hand each frame that is now whole to ``sink``. Raises ProtocolError, after which the reader is of no more use."""
        view = self._view
        unpack = HEADER.unpack_from
        position, end = 0, self._end + received
        needed = HEADER_SIZE
        while end - position >= HEADER_SIZE:
            length, kind, flags, fds, call = unpack(view, position)
            if length > self._max_payload:
                raise ProtocolError(f"frame of {length} bytes, at most {self._max_payload} are accepted")
            start = position + HEADER_SIZE
            stop = start + length
            if stop > end:
                needed = HEADER_SIZE + length
                break
            sink(kind, flags, fds, call, view[start:stop])
            position = stop
        self._keep(position, end, needed)

    def _keep(self, position: int, end: int, needed: int) -> None:
        """Move the unfinished frame, of ``needed`` bytes altogether, to the start of a buffer which has room for it."""
        rest = end - position
        self._end = rest
        capacity = max(needed, self.ROOM)
        if capacity != len(self._buffer):
            buffer = bytearray(capacity)
            buffer[:rest] = self._view[position:end]
            self._buffer, self._view = buffer, memoryview(buffer)
        elif position and rest:
            self._buffer[:rest] = self._buffer[position:end]
