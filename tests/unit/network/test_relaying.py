"""The relay without a container: what it carries from one socket of the loopback interface to another."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from boxrun.network.relay import datagrams
from boxrun.network.relay.datagrams import Datagrams, reply_source
from boxrun.network.relay.protocol import Relay
from boxrun.network.relay.streams import Streams

PATIENCE = 10.0


@contextmanager
def bound(kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


def relay_to(target: socket.socket) -> Relay:
    return Relay(
        container="c",
        protocol="tcp" if target.type == socket.SOCK_STREAM else "udp",
        host_address="127.0.0.1",
        host_port=1,
        address="127.0.0.1",
        port=target.getsockname()[1],
    )


async def test_a_slow_reader_holds_the_writer_back_and_loses_nothing():
    content = os.urandom(1 << 20) * 16
    taken = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await taken.wait()
        writer.write(await reader.read())
        writer.close()

    with bound() as target, bound() as front:
        server = await asyncio.start_server(slow, sock=target.dup())
        streams = Streams(relay_to(target), front.dup())
        reader, writer = await asyncio.open_connection(*front.getsockname())
        writer.write(content)
        # More than all the buffers in between hold: the writer's own is never empty before somebody reads.
        assert writer.transport.get_write_buffer_size() > 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await writer.drain()
        taken.set()
        writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == content
        writer.close()
        server.close()
        streams.end()


async def test_a_client_is_told_where_nobody_listens_and_when_all_ends():
    with bound() as target, bound() as front:
        streams = Streams(relay_to(target), front.dup())
        reader, writer = await asyncio.open_connection(*front.getsockname())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        target.listen()
        reader, writer = await asyncio.open_connection(*front.getsockname())
        target.setblocking(False)
        accepted, _ = await asyncio.get_running_loop().sock_accept(target)
        with accepted:
            streams.close()
            assert streams.busy
            await asyncio.get_running_loop().sock_sendall(accepted, b"on")
            assert await reader.readexactly(2) == b"on"
            streams.end()
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert not streams.busy
        writer.close()


async def ask(front: socket.socket, target: socket.socket, client: socket.socket) -> tuple[str, int]:
    """Send a datagram by the relay and answer it; who the server saw."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE):
        await loop.sock_sendto(client, b"question", front.getsockname())
        data, seen = await loop.sock_recvfrom(target, 100)
        assert data == b"question"
        await loop.sock_sendto(target, b"answer", seen)
        assert await loop.sock_recv(client, 100) == b"answer"
    return seen


async def test_clients_are_told_apart_kept_and_forgotten(monkeypatch):
    monkeypatch.setattr(datagrams, "MOST_CLIENTS", 2)
    with bound(socket.SOCK_DGRAM) as target, bound(socket.SOCK_DGRAM) as front:
        relayed = Datagrams(relay_to(target), front.dup())
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for sock in (*clients, target):
            sock.setblocking(False)
        first, second = await ask(front, target, clients[0]), await ask(front, target, clients[1])
        assert first != second
        assert await ask(front, target, clients[0]) == first
        # The third takes the place of the one that was quiet for longest.
        await ask(front, target, clients[2])
        assert await ask(front, target, clients[0]) == first
        assert await ask(front, target, clients[1]) != second
        relayed.close()
        assert not relayed.busy
        for client in clients:
            client.close()


async def test_quiet_clients_are_forgotten(monkeypatch):
    monkeypatch.setattr(datagrams, "IDLE_SECONDS", 0.05)
    with bound(socket.SOCK_DGRAM) as target, bound(socket.SOCK_DGRAM) as front, socket.socket(type=socket.SOCK_DGRAM) as client:
        relayed = Datagrams(relay_to(target), front.dup())
        client.setblocking(False)
        target.setblocking(False)
        await ask(front, target, client)
        async with asyncio.timeout(PATIENCE):
            while relayed.busy:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await ask(front, target, client)
        relayed.close()


def test_answers_come_from_the_address_that_was_asked():
    own, link = socket.inet_pton(socket.AF_INET6, "2001:db8::1"), socket.inet_pton(socket.AF_INET6, "fe80::1")

    def answered(address: bytes) -> tuple[int, int, bytes] | None:
        return reply_source([(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", address, 7))])

    assert answered(own) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", own, 0))
    assert answered(link) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", link, 7))
    four = struct.pack("=I4s4s", 3, b"\x0a\0\0\1", b"\x0a\0\0\2")
    assert reply_source([(socket.IPPROTO_IP, 8, four)]) == (
        socket.IPPROTO_IP,
        8,
        struct.pack("=I4s4s", 0, *[b"\x0a\0\0\2"] * 2),
    )
    assert reply_source([]) is None
