"""A log as a client gets it, over plain HTTP or over our websocket, as thin as can be: no library, no line handling.

Both readers yield Docker's frames as (kind, payload). A stream that ends as it should ends the iteration; one that breaks off,
as where the daemon is killed, raises ``BrokenStreamError``.

Sources: RFC 9112 section 7.1 (chunks), RFC 6455 section 5.2 (frames), Docker Engine API v1.51 (ContainerAttach).
"""

from __future__ import annotations

import asyncio
import base64
import os
import struct
from collections.abc import AsyncGenerator

POSITION = 4
"""The kind of frame that tells a reader where in the log it is; only over the websocket and where it is asked for."""

_LIMIT = 1 << 16
_FRAME = struct.Struct(">BxxxI")
_CLOSE, _PING, _PONG = 8, 9, 10
_NORMAL = 1000


class BrokenStreamError(Exception):
    """The stream broke off before its end."""


class RefusedError(Exception):
    """The daemon refused, as where the container isn't there."""


class LogStream:
    """One connection that follows a log.

    Args:
        socket: the daemon's unix socket.
        path: the operation's path and query.
        websocket: whether it is a websocket's.
    """

    def __init__(self, socket: str, path: str, *, websocket: bool) -> None:
        self._socket = socket
        self._path = path
        self._websocket = websocket
        self._writer: asyncio.StreamWriter | None = None
        self._buffer = b""

    async def frames(self) -> AsyncGenerator[list[tuple[int, bytes]], None]:
        """The frames, as many at a time as have come.

        Raises:
            BrokenStreamError: the connection can't be made, or broke off.
            RefusedError: the request was refused.
        """
        try:
            reader, self._writer = await asyncio.open_unix_connection(self._socket, limit=_LIMIT)
            self._writer.write(self._head())
            top = await reader.readuntil(b"\r\n\r\n")
            status = int(top.split(b" ", 2)[1])
            if status == 503:
                raise BrokenStreamError(f"GET {self._path}: the daemon is on its way down, or up")
            if status not in (101, 200):
                raise RefusedError(f"GET {self._path}: {top!r}")
            pieces = self._messages(reader) if self._websocket else _chunks(reader)
            async for piece in pieces:
                yield self._split(piece)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise BrokenStreamError(str(error)) from error

    def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()

    def _head(self) -> bytes:
        lines = [f"GET {self._path} HTTP/1.1", "Host: bench"]
        if self._websocket:
            key = base64.b64encode(os.urandom(16)).decode()
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
            lines.append("Sec-WebSocket-Protocol: boxship.multiplexed")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _split(self, data: bytes) -> list[tuple[int, bytes]]:
        buffer = self._buffer + data if self._buffer else data
        frames, at = [], 0
        while len(buffer) - at >= _FRAME.size:
            kind, size = _FRAME.unpack_from(buffer, at)
            end = at + _FRAME.size + size
            if end > len(buffer):
                break
            frames.append((kind, buffer[at + _FRAME.size : end]))
            at = end
        self._buffer = buffer[at:]
        return frames

    async def _messages(self, reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await reader.readexactly(8), "big")
            data = await reader.readexactly(size)
            kind = first & 15
            if kind == _CLOSE:
                if int.from_bytes(data[:2], "big") != _NORMAL:
                    raise BrokenStreamError(f"closed with {data!r}")
                return
            if kind == _PING and self._writer is not None:
                self._writer.write(bytes((0x80 | _PONG, 0x80 | len(data))) + bytes(4) + data)
            elif kind < _CLOSE:
                yield data


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes, None]:
    while size := int(await _line(reader), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)


async def _line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise asyncio.IncompleteReadError(line, None)
    return line


async def lines(socket: str, path: str) -> AsyncGenerator[bytes, None]:
    """The lines of a streamed answer over plain HTTP, which go on until the iteration is left.

    Raises:
        RefusedError: the request was refused.
    """
    reader, writer = await asyncio.open_unix_connection(socket, limit=_LIMIT)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        top = await reader.readuntil(b"\r\n\r\n")
        if int(top.split(b" ", 2)[1]) != 200:
            raise RefusedError(f"GET {path}: {top!r}")
        rest = b""
        async for piece in _chunks(reader):
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line
    finally:
        writer.close()
