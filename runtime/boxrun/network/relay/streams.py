"""TCP: what comes from one socket goes to the other by way of a pipe (splice(2)), so that no byte is copied to this process."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from errno import ECONNABORTED
from typing import Final

from boxrun.network.relay.protocol import QUEUE, Relay

log = logging.getLogger(__name__)

_PIECE: Final = 1 << 16
"""Bytes that go at once: what a pipe holds."""

_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_BATCH: Final = 32
"""Connections taken before it is another's turn."""

_PAUSE: Final = 0.1
"""Seconds until connections are taken again where there was no descriptor for one."""

_CONNECT_SECONDS: Final = 60.0
_SO_DETACH_FILTER: Final = 27
_RESET: Final = struct.pack("ii", 1, 0)


class OneWay:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, ended: Callable[[OneWay, OSError | None], None]) -> None:
        """Begin. ``ended`` is told once, of the end of what ``source`` says or of an error. Raises OSError: no pipe."""
        self._loop = asyncio.get_running_loop()
        self._source, self._target, self._ended = source, target, ended
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._held = 0
        self._loop.add_reader(source, self._readable)

    def close(self) -> None:
        """Let go of the pipe, once, and leave the sockets alone."""
        if self._out >= 0:
            self._loop.remove_reader(self._source)
            self._loop.remove_writer(self._target)
            os.close(self._out)
            os.close(self._in)
            self._out = -1

    def _readable(self) -> None:
        try:
            count = os.splice(self._source.fileno(), self._in, _PIECE, flags=_FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if count:
            self._held = count
            self._flush()
            return
        try:
            self._target.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._end(error)
        else:
            self._end(None)

    def _flush(self) -> bool:
        """Whether the pipe is empty now; where it isn't, nothing is read before it is."""
        try:
            while self._held:
                self._held -= os.splice(self._out, self._target.fileno(), self._held, flags=_FLAGS)
        except BlockingIOError:
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._target, self._writable)
            return False
        except OSError as error:
            self._end(error)
            return False
        return True

    def _writable(self) -> None:
        if self._flush():
            self._loop.remove_writer(self._target)
            self._loop.add_reader(self._source, self._readable)

    def _end(self, error: OSError | None) -> None:
        self.close()
        self._ended(self, error)


class Connection:
    """A client, and a connection to the container on its behalf."""

    def __init__(self, client: socket.socket, relay: Relay, gone: Callable[[Connection], None]) -> None:
        """Take ``client`` over; ``gone`` is told when it is all over."""
        self._client, self._relay, self._gone = client, relay, gone
        self._server: socket.socket | None = None
        self._ways: set[OneWay] = set()
        self._task = asyncio.get_running_loop().create_task(self._begin())

    async def _begin(self) -> None:
        family = socket.AF_INET6 if ":" in self._relay.address else socket.AF_INET
        try:
            _prepare(self._client)
            self._server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            _prepare(self._server)
            async with asyncio.timeout(_CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(self._server, (self._relay.address, self._relay.port))
            self._ways.add(OneWay(self._client, self._server, self._ended))
            self._ways.add(OneWay(self._server, self._client, self._ended))
        except (OSError, TimeoutError):
            # As a client is told at a port where nobody listens.
            self.reset()

    def _ended(self, way: OneWay, error: OSError | None) -> None:
        self._ways.discard(way)
        if error is not None:
            self.reset()
        elif not self._ways:
            self._close()

    def reset(self) -> None:
        """End it at once, as an error for both sides."""
        for sock in (self._client, self._server):
            if sock is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._close()

    def _close(self) -> None:
        self._task.cancel()
        for way in self._ways:
            way.close()
        self._ways.clear()
        self._client.close()
        if self._server is not None:
            self._server.close()
        self._gone(self)


def _prepare(sock: socket.socket) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A client that has vanished must not be waited for forever.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


class Streams:
    """A listening socket and its connections."""

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        """Take ``sock`` over. Raises OSError."""
        self.relay, self.sock = relay, sock
        self._connections: set[Connection] = set()
        self._loop = asyncio.get_running_loop()
        sock.setblocking(False)
        sock.listen(QUEUE)
        self._loop.add_reader(sock, self._readable)

    def close(self) -> None:
        """Take no more connections; those that there are go on."""
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self.sock.close()

    def end(self) -> None:
        """End everything."""
        self.close()
        for connection in list(self._connections):
            connection.reset()

    @property
    def busy(self) -> bool:
        """Whether there are connections."""
        return bool(self._connections)

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                client, _ = self.sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == ECONNABORTED:
                    continue
                # No descriptor or no memory: what waits in the queue waits a little longer.
                log.warning("port %s: %s", self.relay.host_port, error.strerror)
                self._loop.remove_reader(self.sock)
                self._loop.call_later(_PAUSE, self._resume)
                return
            with suppress(OSError):
                # What the listening socket lets in is its own affair, and is asked of it once.
                client.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
            self._connections.add(Connection(client, self.relay, self._connections.discard))

    def _resume(self) -> None:
        if self.sock.fileno() >= 0:
            self._loop.add_reader(self.sock, self._readable)
