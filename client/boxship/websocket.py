"""Websocket client: the handshake, which travels through an HTTP connection, and the stream of messages after it.

Source: RFC 6455.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Iterable

from boxship.errors import ProtocolError
from boxship.http.connection import Headers
from boxship.http.duplex import Duplex
from boxship.http.frames import BINARY, CLOSE, PING, PONG, FrameReader, encode
from boxship.http.stream import Stream

try:
    # hashlib loads all of OpenSSL.
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha1

# The largest payload of a frame sent: big enough to be cheap to mask, small enough to interleave with answers.
FRAME_BYTES = 65536

_NORMAL = 1000
_GOING_AWAY = 1001
_NO_STATUS = 1005


class Handshake:
    """The client's half of the opening handshake (RFC 6455, section 4.1).

    Args:
        subprotocols: in order of preference.
    """

    def __init__(self, subprotocols: Iterable[str] = ()) -> None:
        self._key = b2a_base64(os.urandom(16), newline=False).decode()
        self._subprotocols = tuple(subprotocols)

    @property
    def headers(self) -> Headers:
        """The headers to send."""
        fields = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", self._key),
            ("Sec-WebSocket-Version", "13"),
        ]
        if self._subprotocols:
            fields.append(("Sec-WebSocket-Protocol", ", ".join(self._subprotocols)))
        return fields

    def check(self, headers: dict[str, str]) -> str:
        """Check the server's answer; the subprotocol it chose, empty for none.

        Raises:
            ProtocolError: it is no answer to this handshake.
        """
        digest = sha1(self._key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
        if headers.get("sec-websocket-accept") != b2a_base64(digest, newline=False).decode():
            raise ProtocolError("the daemon's websocket handshake has the wrong key")
        chosen = headers.get("sec-websocket-protocol", "")
        if chosen and chosen not in self._subprotocols:
            raise ProtocolError(f"the daemon chose a websocket subprotocol that was not offered: {chosen!r}")
        return chosen


class WebSocket(Duplex):
    """An open websocket that carries binary messages; a context manager that closes it.

    Args:
        stream: the byte stream, owned from here on.
        received: bytes that came with the handshake's answer.
        subprotocol: the one in use.
    """

    def __init__(self, stream: Stream, received: bytes = b"", subprotocol: str = "") -> None:
        super().__init__(stream)
        self._frames = FrameReader()
        self.subprotocol = subprotocol
        self.close_code = 0
        self.close_reason = ""
        self._close_sent = False
        self._take(received)

    def write(self, data: bytes) -> None:
        """Queue ``data`` and send what can be sent without waiting."""
        for start in range(0, len(data), FRAME_BYTES):
            self._queue(encode(BINARY, data[start : start + FRAME_BYTES]))
        self.flush()

    def finish_writing(self) -> None:
        """Say that no more input comes: an empty binary message, which no data ever is."""
        self._queue(encode(BINARY, b""))
        self.flush()

    def close(self) -> None:
        """Close the websocket and the stream below it."""
        if not self._close_sent and not self.unsent:
            self._close_sent = True
            try:
                self._queue(encode(CLOSE, _NORMAL.to_bytes(2, "big")))
                self.flush()
            except ProtocolError:
                pass
        super().close()

    def _end(self) -> None:
        if not self.close_code:
            raise ProtocolError("the daemon hung up in the middle of a stream")

    def _take(self, data: bytes) -> None:
        for opcode, payload in self._frames.feed(data):
            if opcode == CLOSE:
                self._closed(payload)
                # Nothing that comes behind it counts.
                return
            if opcode == PING:
                self._queue(encode(PONG, payload))
                self.flush()
            elif opcode != PONG and payload:
                self._payload(payload)

    def _payload(self, payload: bytes) -> None:
        """Take a message's payload, or a part of it."""
        self._arrived.append(payload)

    def _closed(self, payload: bytes) -> None:
        self.ended = True
        self.close_code = int.from_bytes(payload[:2], "big") or _NO_STATUS
        self.close_reason = payload[2:].decode("utf-8", "replace")
        if self.close_code not in (_NORMAL, _GOING_AWAY, _NO_STATUS):
            raise ProtocolError(self.close_reason or f"the daemon closed the stream with code {self.close_code}")


class MessageSocket(WebSocket):
    """An open websocket whose messages are told apart: what is read is one of them each time, and so is what is written."""

    def __init__(self, stream: Stream, received: bytes = b"") -> None:
        self._parts = bytearray()
        super().__init__(stream, received)

    def write(self, data: bytes) -> None:
        """Queue a message and send what can be sent without waiting."""
        self._queue(encode(BINARY, data))
        self.flush()

    def _payload(self, payload: bytes) -> None:
        self._parts += payload
        if self._frames.between_messages:
            self._arrived.append(bytes(self._parts))
            self._parts.clear()
