"""Asking other servers: all of a container's at once, so that one that is down makes nobody wait.

The first that knows counts. That a name does not exist counts only from the server listed first, or once those listed before
have said so too, or have had their chance: where one of several knows an office's own names, the others deny them quickly.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from boxrun.network.dns.codec import HEADER, MalformedError, Query, Response, parse_response

_CHANCE: Final = 0.3
_LARGEST: Final = 65535


class Server(NamedTuple):
    """Where a server is."""

    address: str
    port: int = 53

    @property
    def family(self) -> int:
        """The address family."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


def parse_server(text: str) -> Server:
    """``192.0.2.1``, ``2001:db8::1``, ``[192.0.2.1]:5353``. Raises ValueError."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]:")
        return Server(address, int(port))
    return Server(text)


def to_ask(query: Query, data: bytes) -> tuple[int, bytes]:
    """A query with a number that nobody can guess."""
    identity = secrets.randbelow(1 << 16)
    return identity, identity.to_bytes(2, "big") + data[2:]


async def ask(servers: Sequence[Server], query: Query, data: bytes, timeout: float, *, tcp: bool) -> Response | None:
    """Ask all ``servers``; None where none has answered in time.

    Args:
        servers: in the order in which they count.
        query: what is asked.
        data: the same in bytes.
        timeout: seconds for all of it.
        tcp: over TCP.
    """
    one = _over_tcp if tcp else _over_udp
    tasks = [asyncio.ensure_future(one(server, query, data, timeout)) for server in servers]
    try:
        async with asyncio.timeout(timeout):
            return await _best(tasks)
    except TimeoutError:
        done = [task.result() for task in tasks if task.done() and not task.cancelled() and task.exception() is None]
        return next((response for response in done if response is not None), None)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _best(tasks: Sequence[asyncio.Task[Response | None]]) -> Response | None:
    waiting = set(tasks)
    denied: Response | None = None
    chance: float | None = None
    loop = asyncio.get_running_loop()
    while waiting:
        left = None if chance is None else max(0.0, chance - loop.time())
        done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            return denied
        for task in (task for task in tasks if task in done):
            response = task.result()
            if response is not None and response.positive:
                return response
        for task in tasks:
            if not task.done():
                break
            response = task.result()
            if response is not None and response.good:
                return response
        if denied is None:
            denied = next((r for task in tasks if task.done() and (r := task.result()) is not None and r.good), None)
            chance = loop.time() + _CHANCE if denied is not None else None
    return denied or next((response for task in tasks if (response := task.result()) is not None), None)


async def _over_udp(server: Server, query: Query, data: bytes, timeout: float) -> Response | None:
    """Each question has a socket, and so a port, of its own: nobody can guess both port and number."""
    loop = asyncio.get_running_loop()
    identity, asked = to_ask(query, data)
    try:
        with socket.socket(server.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            sock.connect((server.address, server.port))
            for attempt in range(3):
                sock.send(asked)
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout / 3 if attempt < 2 else None):
                        while True:
                            received = await loop.sock_recv(sock, _LARGEST)
                            with suppress(MalformedError):
                                return parse_response(received, query, identity)
    except OSError:
        pass
    return None


async def _over_tcp(server: Server, query: Query, data: bytes, timeout: float) -> Response | None:
    identity, asked = to_ask(query, data)
    loop = asyncio.get_running_loop()
    try:
        with socket.socket(server.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            await loop.sock_connect(sock, (server.address, server.port))
            await loop.sock_sendall(sock, struct.pack("!H", len(asked)) + asked)
            size = int.from_bytes(await _exactly(sock, 2), "big")
            if size < HEADER.size:
                return None
            return parse_response(await _exactly(sock, size), query, identity)
    except (OSError, MalformedError, EOFError):
        return None


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < count:
        chunk = await loop.sock_recv(sock, count - len(received))
        if not chunk:
            raise EOFError
        received += chunk
    return received
