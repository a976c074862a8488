"""The opening handshake of a websocket whose socket is given away afterwards.

Source: RFC 6455, section 4.2.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from multidict import CIMultiDictProxy

from boxshipd.api.version import HEADERS
from boxshipd.errors import InvalidParameter

MULTIPLEXED = "boxship.multiplexed"
"""The subprotocol that asks for Docker's stream frames inside the messages, so that stdout and stderr can be told apart."""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def tokens(value: str) -> list[str]:
    """A header's comma-separated words."""
    return [word.strip() for word in value.split(",") if word.strip()]


def wants_multiplexed(headers: CIMultiDictProxy[str]) -> bool:
    """Whether a client offers our subprotocol."""
    return MULTIPLEXED in tokens(",".join(headers.getall("Sec-WebSocket-Protocol", [])))


def accept(headers: CIMultiDictProxy[str]) -> bytes:
    """The head that accepts a websocket.

    Raises:
        InvalidParameter: the request isn't a websocket's opening handshake of version 13.
    """
    if "upgrade" not in tokens(headers.get("Connection", "").lower()) or headers.get("Upgrade", "").lower() != "websocket":
        raise InvalidParameter("not a websocket handshake: Connection and Upgrade headers are missing")
    if headers.get("Sec-WebSocket-Version", "") != "13":
        raise InvalidParameter("not a websocket handshake: Sec-WebSocket-Version must be 13")
    key = headers.get("Sec-WebSocket-Key", "")
    try:
        valid = len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise InvalidParameter("not a websocket handshake: Sec-WebSocket-Key must be 16 bytes in base64")
    # RFC 6455 prescribes SHA-1 here; nothing rests on its strength.
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *([f"Sec-WebSocket-Protocol: {MULTIPLEXED}"] if wants_multiplexed(headers) else []),
        *(f"{name}: {value}" for name, value in HEADERS.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
