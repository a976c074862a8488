"""A client's connection: HTTP by aiohttp, until a request takes the connection over for a stream of its own.

Attaching hijacks the connection: what follows the request's head is the container's stdin, and it may arrive in the same
packet. aiohttp's parser would read it as the next request. So bytes are given to the parser only up to the end of a head,
and when that head belongs to an operation that hijacks, whatever follows is kept aside, but for a body of the declared length.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

from boxshipd.api.errors import error_response
from boxshipd.api.security import BrowserGuard

_EXEC_START = re.compile(r"/exec/[^/]+/start$")
_EXEC_START_WS = re.compile(r"/exec/[^/]+/start/ws$")
_KEPT_LIMIT = 256 * 1024
"""How many bytes are kept before the client has to wait."""
_HEAD_LIMIT = 1 << 20
"""Bytes of one line of a request's head: builds have their labels and arguments in it. Source: Go's net/http."""


class ClientGoneError(ConnectionResetError):
    """The client has closed its connection, or takes nothing from it: there is nobody to answer."""


def hijacks(method: str, path: str) -> bool:
    """Whether a request's connection becomes a stream; ``path`` is the raw one, with its query."""
    path = path.partition("?")[0]
    if method == "POST":
        return path.endswith("/attach") or _EXEC_START.search(path) is not None
    return method == "GET" and (path.endswith("/attach/ws") or _EXEC_START_WS.search(path) is not None)


class Connection(RequestHandler):
    """One client's connection; ``guard`` is None on listeners that no browser can reach."""

    __slots__ = ("_body_left", "_edge", "_kept", "_on_lost", "guard")

    def __init__(self, manager: Server, *, guard: BrowserGuard | None, **options: Any) -> None:
        super().__init__(manager, **options)
        self.guard = guard
        self._kept: bytearray | None = None
        self._edge = b""
        self._body_left = 0
        self._on_lost: Callable[[], object] | None = None

    def data_received(self, data: bytes) -> None:
        """Take what the client sent; see the module's docstring."""
        if not data:
            # aiohttp's own call: its parser is to go on with what it held back while the body's reader was behind.
            super().data_received(data)
        while data:
            if self._body_left:
                body, data = data[: self._body_left], data[self._body_left :]
                self._body_left -= len(body)
                super().data_received(body)
                continue
            if self._kept is not None:
                self._keep(data)
                return
            end = self._head_end(data)
            self._edge = (self._edge + data[:end])[-3:]
            super().data_received(data[:end])
            # The request is still queued: its handler runs at the earliest in the loop's next turn.
            if self._messages:
                self._expect_stream(self._messages[-1][0])
            data = data[end:]

    def _expect_stream(self, head: object) -> None:
        """Keep what follows this head and its body, where they turn the connection into a stream."""
        if not hijacks(getattr(head, "method", ""), getattr(head, "path", "")):
            return
        headers = getattr(head, "headers", {})
        # Of a body in chunks the end isn't known here: what follows it too early is refused as the bad request it looks like.
        if "Transfer-Encoding" not in headers:
            self._kept = bytearray()
            self._body_left = int(headers.get("Content-Length", 0))

    def _head_end(self, data: bytes) -> int:
        """Where in ``data`` a request's head ends, even if its last four bytes began in the packet before."""
        if self._edge:
            seam = (self._edge + data[:3]).find(b"\r\n\r\n")
            if seam >= 0:
                return seam + 4 - len(self._edge)
        found = data.find(b"\r\n\r\n")
        return found + 4 if found >= 0 else len(data)

    def _keep(self, data: bytes) -> None:
        assert self._kept is not None
        self._kept += data
        if len(self._kept) >= _KEPT_LIMIT and self.transport is not None:
            self.transport.pause_reading()

    def eof_received(self) -> bool | None:  # type: ignore[override]  # aiohttp narrows asyncio's signature
        """The client has no more to send; a hijacked stream goes on in the other direction, half a request doesn't."""
        return True if self._kept is not None and not self._body_left else None

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost()

    def when_lost(self, callback: Callable[[], object] | None) -> None:
        """Call ``callback`` once when the client goes away; None to forget it."""
        self._on_lost = callback

    def interrupt(self) -> None:
        """End what is under way here if it changes nothing, as if the client had gone: the daemon ends."""
        if self._on_lost is not None:
            self._on_lost()

    def take_over(self, head: bytes) -> tuple[int, bytes]:
        """End HTTP on this connection: answer ``head`` and give the socket away.

        Returns:
            A file descriptor of the socket, which the caller now owns (it is non-blocking), and what the client had
            already sent after its request. ``release`` must follow once the descriptor has found its new owner.

        Raises:
            ClientGoneError: the client is gone, or doesn't read.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise ClientGoneError("client went away before its connection was taken over")
        transport.pause_reading()
        if transport.get_write_buffer_size():
            raise ClientGoneError("client doesn't read the answers to its earlier requests")
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
        try:
            # Straight to the socket: what the transport has queued would come after the stream's first bytes.
            if os.write(descriptor, head) != len(head):
                raise ClientGoneError("client doesn't read")
        except OSError as error:
            os.close(descriptor)
            raise ClientGoneError(f"client can't be answered: {error}") from error
        received = bytes(self._kept or b"")
        self._kept = bytearray()
        return descriptor, received

    def release(self) -> None:
        """Forget the socket without shutting it down: it belongs to somebody else now."""
        if self.transport is not None:
            self.transport.abort()

    def refuse_takeover(self, response: StreamResponse) -> None:
        """Go on with HTTP after an operation that would have hijacked was refused."""
        if self._kept:
            response.force_close()
        else:
            self._kept = None

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """Answer what isn't HTTP; aiohttp calls this before any of our code has seen the request."""
        self.logger.debug("bad request", exc_info=exc)
        self._kept = None
        response = error_response(status, (message or "the request can't be understood").strip())
        response.force_close()
        return response


class ConnectionServer(Server):
    """Makes a Connection for each client of one listener."""

    def __init__(self, handler: Callable[[BaseRequest], Any], guard: BrowserGuard | None) -> None:
        super().__init__(handler)
        self._guard = guard

    def __call__(self) -> Connection:
        """A new client's connection."""
        return Connection(
            self,
            guard=self._guard,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
            lingering_time=1.0,
            max_line_size=_HEAD_LIMIT,
            max_field_size=_HEAD_LIMIT,
        )

    async def shutdown(self, timeout: float | None = None) -> None:
        """End: followers and waiters at once, everything else within ``timeout`` seconds."""
        for connection in self.connections:
            if isinstance(connection, Connection):
                connection.interrupt()
        await super().shutdown(timeout)


class TakenOver(StreamResponse):
    """What a handler returns when the client has been answered outside HTTP, or is gone."""

    async def prepare(self, request: BaseRequest) -> None:
        """Nothing is left to be said."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to be said."""
