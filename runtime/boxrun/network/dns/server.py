"""The name server's process: a pair of sockets for each container, and a connection to the supervisor."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Final

from boxrun.linux.datagrams import Datagrams
from boxrun.network.companion.process import Orders
from boxrun.network.dns import protocol
from boxrun.network.dns.answers import Answers, Client
from boxrun.network.dns.cache import Cache
from boxrun.network.dns.codec import Query
from boxrun.network.dns.names import Directory
from boxrun.network.dns.prepared import Prepared

log = logging.getLogger(__name__)

_BATCH: Final = 32
"""Datagrams of a container before it is another's turn."""

_DATAGRAM: Final = 4096
_TCP_SECONDS: Final = 10.0
_TCP_CONNECTIONS: Final = 32
_PIECE: Final = 500


class Listener:
    """A container's sockets."""

    def __init__(self, client: Client, answers: Answers, datagrams: Datagrams, udp: socket.socket, tcp: socket.socket) -> None:
        self.client = client
        self._answers, self._datagrams = answers, datagrams
        self._udp, self._tcp = udp, tcp
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        asyncio.get_running_loop().add_reader(udp, self._readable)

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connected, sock=self._tcp, limit=1 << 16)

    def close(self) -> None:
        """Close everything."""
        asyncio.get_running_loop().remove_reader(self._udp)
        self._udp.close()
        for task in self._tasks:
            task.cancel()
        if self._server is not None:
            self._server.close()
        self._tcp.close()
        for writer in list(self._connections):
            writer.close()

    def _readable(self) -> None:
        answers: list[bytes | None] = []
        with suppress(OSError):
            for number, data in enumerate(self._datagrams.receive(self._udp.fileno())):
                answer = self._answers.datagram(self.client, data)
                if isinstance(answer, Query):
                    self._ask(answer, data, self._datagrams.sender(number))
                    answer = None
                answers.append(answer)
        self._datagrams.answer(self._udp.fileno(), answers)

    def _ask(self, query: Query, data: bytes, address: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._later(query, data, address))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _later(self, query: Query, data: bytes, address: tuple[str, int]) -> None:
        answer = await self._answers.later(self.client, query, data, tcp=False)
        with suppress(OSError):  # a full queue is the client's loss, as on every network
            self._udp.sendto(answer, address)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _TCP_CONNECTIONS:
            writer.close()
            return
        self._connections.add(writer)
        try:
            while True:
                async with asyncio.timeout(_TCP_SECONDS):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                answer = self._answers.at_once(self.client, data, tcp=True)
                if answer is None:
                    return
                if not isinstance(answer, bytes):
                    answer = await self._answers.later(self.client, answer, data, tcp=True)
                async with asyncio.timeout(_TCP_SECONDS):
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (OSError, EOFError, TimeoutError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()


class NameServerProcess:
    """Every container's listener, and the supervisor's orders."""

    def __init__(self, listening: socket.socket) -> None:
        self._orders = Orders(listening, self._do)
        self._directory = Directory()
        self._prepared = Prepared()
        self._answers = Answers(self._directory, Cache(), self._prepared)
        self._datagrams = Datagrams(_BATCH, _DATAGRAM)
        self._listeners: dict[str, Listener] = {}
        self._keep: set[str] = set()

    async def run(self) -> None:
        """Serve until told to end."""
        await self._orders.run()
        for listener in self._listeners.values():
            listener.close()

    async def _do(self, data: bytes, socks: list[socket.socket]) -> None:
        order = protocol.decode_order(data)
        match order:
            case protocol.Serve():
                await self._serve(order, socks)
            case protocol.Moved():
                if order.container in self._listeners:
                    self._listeners[order.container].client.settle(order.networks, order.resolver)
                    self._prepared.clear()
            case protocol.Drop():
                self._drop(order.container)
            case protocol.Change():
                self._directory.change(order.change)
                self._prepared.clear()
            case protocol.Network():
                if order.name:
                    self._directory.call(order.id, order.name)
                else:
                    self._directory.forget(order.id)
                self._prepared.clear()
            case protocol.Keep():
                await self._kept(order)
            case protocol.End():
                self._orders.end()

    async def _serve(self, order: protocol.Serve, socks: list[socket.socket]) -> None:
        self._drop(order.container)
        if len(socks) != 2:
            for sock in socks:
                sock.close()
            raise ValueError(f"container {order.container} came with {len(socks)} sockets")
        client = Client(order.container)
        try:
            client.settle(order.networks, order.resolver)
        except ValueError as error:
            log.error("container %s: %s", order.container, error)
        for sock in socks:
            sock.setblocking(False)
        listener = self._listeners[order.container] = Listener(client, self._answers, self._datagrams, *socks)
        await listener.listen()

    def _drop(self, container: str) -> None:
        listener = self._listeners.pop(container, None)
        if listener is not None:
            listener.close()
            self._prepared.clear()

    async def _kept(self, order: protocol.Keep) -> None:
        self._keep.update(order.containers)
        if not order.last:
            return
        for container in list(self._listeners):
            if container not in self._keep:
                self._drop(container)
        self._keep = set()
        kept = list(self._listeners)
        pieces = [tuple(kept[start : start + _PIECE]) for start in range(0, len(kept), _PIECE)] or [()]
        for number, piece in enumerate(pieces, 1):
            await self._orders.answer(protocol.Kept(containers=piece, last=number == len(pieces)))
