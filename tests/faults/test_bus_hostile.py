"""Peers that break the rules of the bus are disconnected; nobody else notices, and nothing of them stays."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator

import pytest
from boxrun.bus import Channel, Limits, Server, connect_unix, frames, serve_unix
from boxrun.bus.frames import Hello, encode_frame, encode_hello, encode_opening
from support.bus import Blob, Count, Echo, EchoService, RawClient, Text, credit, open_fds, until

LIMITS = Limits(max_frame=1 << 20, window=1 << 16, max_calls=50, handshake=0.2, keepalive=60, keepalive_timeout=60)
HELLO = encode_frame(frames.HELLO, payload=encode_hello(Hello(1 << 16, 1 << 20)))
GREET = encode_opening(b"Echo.greet") + b"\x80"
TOTAL = encode_frame(frames.OPEN, 0, 1, encode_opening(b"Echo.total"))
BLOB = b"\x81\xa4data\xc5\x80\x00" + bytes(32768)


class Site:
    """A server under attack, with a bystander whose calls go on all the time."""

    def __init__(self, path: str, server: Server, bystander: Channel) -> None:
        self.path = path
        self.server = server
        self.bystander = bystander
        self.calls = 0

    async def work(self) -> None:
        """What the bystander does."""
        while True:
            assert await self.bystander.unary(Echo.greet, Text("you"), timeout=5) == Text("hello you")
            async with self.bystander.server_stream(Echo.count, Count(-1, 100), timeout=5) as replies:
                assert len((await anext(replies)).data) == 100
            self.calls += 1

    async def goes_on(self) -> None:
        """The attackers are gone without a trace, and the bystander still works."""
        await until(lambda: self.server.connections == 1)
        calls = self.calls
        await until(lambda: self.calls > calls + 5)


@pytest.fixture
async def site(tmp_path) -> AsyncIterator[Site]:
    path = str(tmp_path / "bus.sock")
    async with (
        serve_unix(path, [EchoService()], limits=LIMITS, drain=0) as server,
        await connect_unix(path, limits=LIMITS) as bystander,
    ):
        site = Site(path, server, bystander)
        working = asyncio.create_task(site.work())
        await until(lambda: site.calls > 0)
        yield site
        assert not working.done()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working


ATTACKS = {
    "garbage": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10,
    "zeros": bytes(1000),
    "no hello": encode_frame(frames.PING),
    "wrong magic": encode_frame(frames.HELLO, payload=b"boxrux" + bytes(10)),
    "wrong version": encode_frame(frames.HELLO, payload=b"boxrun\xff\xff" + bytes(8)),
    "oversized hello": encode_frame(frames.HELLO)[:16].replace(b"\0\0\0\0", b"\xff\xff\xff\xff", 1),
    "oversized frame": HELLO + frames.HEADER.pack((1 << 20) + 1, frames.OPEN, 0, 0, 1),
    "empty opening": HELLO + encode_frame(frames.OPEN, frames.END, 1, b""),
    "opening cut short": HELLO + encode_frame(frames.OPEN, frames.END, 1, b"\x20Echo"),
    "metadata cut short": HELLO + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.greet", 0, {"a": "b"})[:-1]),
    "metadata malformed": HELLO
    + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.greet")[:-2] + b"\x01\x00\x01"),
    "call number 0": HELLO + encode_frame(frames.OPEN, frames.END, 0, GREET),
    "call number twice": HELLO + encode_frame(frames.OPEN, frames.END, 7, GREET) * 2,
    "unary without end": HELLO + encode_frame(frames.OPEN, 0, 1, GREET),
    "stream with request": HELLO + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.total")),
    "second request": HELLO
    + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.hold") + b"\x80")
    + encode_frame(frames.MESSAGE, 0, 1, b"\x80"),
    "beyond the credit": HELLO
    + encode_frame(frames.OPEN, 0, 1, encode_opening(b"Echo.ignore"))
    + encode_frame(frames.MESSAGE, 0, 1, BLOB) * 3,
    "credit cut short": HELLO
    + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.count") + b"\x82\xa5count\xff\xa4size\x01")
    + encode_frame(frames.CREDIT, 0, 1, b"\x01"),
    "credit above the window": HELLO
    + encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.count") + b"\x82\xa5count\xff\xa4size\x01")
    + encode_frame(frames.CREDIT, 0, 1, credit(0xFFFFFFFF)),
    "descriptors that never came": HELLO + encode_frame(frames.OPEN, frames.END, 1, GREET, fds=3),
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_rule_breakers_are_disconnected(site, attack):
    with RawClient(site.path) as client:
        try:
            await client.send(ATTACKS[attack])
        except (BrokenPipeError, ConnectionResetError):
            pass  # disconnected before it had sent everything
        await client.ended()
    await site.goes_on()


@pytest.mark.parametrize("length", [0, 1, 15, 16, len(HELLO) - 1, len(HELLO), len(HELLO) + 20])
async def test_half_frames_then_the_end(site, length):
    with RawClient(site.path) as client:
        await client.send((HELLO + encode_frame(frames.OPEN, frames.END, 1, GREET))[:length])
    await site.goes_on()


async def test_half_a_hello_then_silence(site):
    with RawClient(site.path) as client:
        await client.send(HELLO[:20])
        await client.ended()
    await site.goes_on()


async def test_half_a_large_frame_then_silence_holds_up_nobody(site):
    with RawClient(site.path) as client:
        await client.hello()
        await client.send(encode_frame(frames.OPEN, frames.END, 1, bytes(1 << 20))[:500_000])
        calls = site.calls
        await until(lambda: site.calls > calls + 5)
    await site.goes_on()


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes(site, seed):
    source = random.Random(seed)
    with RawClient(site.path) as client:
        try:
            if seed % 2:
                await client.send(HELLO)
            await client.send(source.randbytes(source.randrange(1, 100_000)))
        except (BrokenPipeError, ConnectionResetError):
            pass
    await site.goes_on()


@pytest.mark.parametrize("seed", range(20))
async def test_mutated_conversations(site, seed):
    """Well-formed frames with a few bytes changed: answered or disconnected, but never more than that."""
    source = random.Random(seed)
    talk = bytearray(HELLO + encode_frame(frames.OPEN, frames.END, 1, GREET) + TOTAL.replace(b"\x01", b"\x02", 1))
    talk += encode_frame(frames.MESSAGE, 0, 1, BLOB) + encode_frame(frames.HALF, 0, 1) + encode_frame(frames.CANCEL, 0, 1)
    for _ in range(source.randrange(1, 6)):
        talk[source.randrange(len(HELLO), len(HELLO) + 120)] = source.randrange(256)
    with RawClient(site.path) as client:
        try:
            await client.send(bytes(talk))
        except (BrokenPipeError, ConnectionResetError):
            pass
    await site.goes_on()


async def test_unknown_kinds_are_ignored(site):
    with RawClient(site.path) as client:
        await client.hello()
        await client.send(encode_frame(200, 3, 1, b"later version") + encode_frame(frames.OPEN, frames.END, 1, GREET))
        assert (await client.frame())[:3] == (frames.MESSAGE, frames.END, 1)


async def test_frames_for_calls_that_are_over_are_ignored(site):
    with RawClient(site.path) as client:
        await client.hello()
        await client.send(encode_frame(frames.OPEN, frames.END, 1, GREET))
        assert (await client.frame())[0] == frames.MESSAGE
        for kind in (frames.MESSAGE, frames.HALF, frames.CANCEL, frames.CREDIT):
            await client.send(encode_frame(kind, 0, 1, b"late"))
        await client.send(encode_frame(frames.OPEN, frames.END, 2, GREET))
        assert (await client.frame())[:3] == (frames.MESSAGE, frames.END, 2)


async def test_descriptors_that_belong_to_no_frame(site):
    with RawClient(site.path) as client:
        await client.hello()
        await client.send(encode_frame(frames.PING), [0])
        await client.ended()
    await site.goes_on()


async def test_descriptors_of_rule_breakers_are_closed(site):
    reader, writer = os.pipe()
    descriptors = [reader, writer]
    try:
        for data, sent in (
            (HELLO, descriptors),
            (encode_frame(frames.HELLO, payload=HELLO[16:], fds=2), descriptors),
            (HELLO[:10], descriptors),
            (b"x", descriptors * 100),
            (encode_frame(frames.OPEN, frames.END, 1, b"", fds=2), descriptors),
            (encode_frame(frames.OPEN, frames.END, 1, GREET, fds=1), descriptors),
            (encode_frame(frames.OPEN, frames.END, 1, encode_opening(b"Echo.lost"), fds=2), descriptors),
            (encode_frame(frames.OPEN, frames.END, 1, GREET, fds=2)[:-1], descriptors),
            (encode_frame(frames.MESSAGE, 0, 99, b"", fds=2), descriptors),
            (encode_frame(frames.PING, 0, 0, b"", fds=2), descriptors),
        ):
            with RawClient(site.path) as client:
                if data[4:5] != b"\x01" and len(data) > 1:
                    await client.hello()
                await client.send(data, sent)
            await site.goes_on()
        os.close(writer)
        descriptors.remove(writer)
        # Only when no copy of the writing end is left anywhere does a pipe end.
        assert await asyncio.wait_for(asyncio.to_thread(os.read, reader, 1), 10) == b""
    finally:
        for fd in descriptors:
            os.close(fd)


async def test_many_at_once(site):
    before = open_fds()
    source = random.Random(1)
    clients = [RawClient(site.path) for _ in range(100)]

    async def attack(client: RawClient) -> None:
        with client:
            try:
                await client.send(source.choice([b"", HELLO]) + source.randbytes(3000))
                await client.ended()
            except (BrokenPipeError, ConnectionResetError):
                pass

    await asyncio.gather(*(attack(client) for client in clients))
    await site.goes_on()
    await until(lambda: open_fds() <= before)


async def test_a_client_killed_in_the_middle_of_everything(site):
    for turns in range(30):
        channel = await connect_unix(site.path, limits=LIMITS)
        tasks = [
            asyncio.create_task(channel.unary(Echo.hold, Text(), fds=[0])),
            asyncio.create_task(channel.unary_with_fds(Echo.swap, Text())),
            asyncio.create_task(channel.unary(Echo.mirror, Blob(bytes(300_000)))),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        channel.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, tuple):
                for fd in result[1]:
                    os.close(fd)
    await site.goes_on()
