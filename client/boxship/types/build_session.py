"""A build's session: what the client supplies, and takes, while the daemon builds.

The client opens a websocket at ``GET /build/session?id=<random>`` and then posts the build with that ``session``. Each binary
message is one frame in msgpack. The daemon opens streams, whose odd numbers are used once; each has two directions.

    context  the client sends a tar archive, compressed or not, then ``end``
    secret   the client sends the secret's bytes, then ``end``
    agent    an SSH agent's connection: both send, and each ends its own direction
    receive  the daemon sends an archive, then ``end``; the client answers ``end`` once it has it safely

Where only one side sends, the other's direction has nothing and needs no ``end``, but for ``receive``. An ``error`` from either
side ends the whole stream; with ``missing`` the client says that it doesn't have what was asked for. No side sends more than
``WINDOW`` bytes of a stream's data that the other hasn't acknowledged with ``ack``.

Source: BuildKit session/grpc.go, session/filesync, session/secrets, session/sshforward, in one protocol of our own.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

WINDOW = 1024 * 1024
"""Bytes of data that may be on their way unacknowledged, for each stream and direction."""

CHUNK = 128 * 1024
"""The most data in one frame, in bytes."""

Method = Literal["", "context", "secret", "agent", "receive"]


class Frame(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message.

    Attributes:
        stream: the stream's number.
        kind: what it does to the stream.
        method: with ``open``, what the daemon asks for.
        name: with ``open``, of what: the context's, the secret's or the agent's, or the number from 0 of the request's output.
        data: with ``data``, the bytes.
        message: with ``error``, what went wrong, for people.
        missing: with ``error``, that there is no such thing.
        count: with ``ack``, how many bytes have been taken since the last one.
    """

    stream: int
    kind: Literal["open", "data", "end", "error", "ack"]
    method: Method = ""
    name: str = ""
    data: bytes = b""
    message: str = ""
    missing: bool = False
    count: int = 0
