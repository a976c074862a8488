"""File descriptors travel both ways, and none is ever left open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from boxrun.bus import BusError
from support.bus import Blob, Code, Count, Echo, Failure, Text, flood, open_fds, until


@contextmanager
def pipe(data: bytes) -> Iterator[int]:
    """A pipe's reading end with ``data`` and an end."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    yield reader
    os.close(reader)


async def test_fds_travel_both_ways(bus):
    before = open_fds()
    with pipe(b"one ") as one, pipe(b"two") as two:
        reply, fds = await bus.channel.unary_with_fds(Echo.swap, Text("x"), fds=[one, two])
    assert reply == Text("x")
    assert [os.read(fd, 100) for fd in fds] == [b"one two"]
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in fds:
        os.close(fd)
    await until(lambda: open_fds() == before)


async def test_fds_stay_with_their_calls(bus):
    before = open_fds()

    async def swap(number: int) -> None:
        with pipe(b"%d" % number) as reader:
            _, fds = await bus.channel.unary_with_fds(Echo.swap, Text(), fds=[reader])
        assert os.read(fds[0], 100) == b"%d" % number
        os.close(fds[0])

    await asyncio.gather(*(swap(number) for number in range(50)), *(bus.channel.unary(Echo.greet, Text()) for _ in range(40)))
    await until(lambda: open_fds() == before)


async def test_fds_may_be_closed_by_the_caller_at_once(bus):
    with pipe(b"early") as reader:
        call = asyncio.create_task(bus.channel.unary_with_fds(Echo.swap, Text(), fds=[reader]))
        await asyncio.sleep(0)
    _, fds = await call
    assert os.read(fds[0], 100) == b"early"
    os.close(fds[0])


async def test_untaken_fds_are_closed(bus):
    before = open_fds()
    with pipe(b"data") as reader:
        assert await bus.channel.unary(Echo.greet, Text("you"), fds=[reader]) == Text("hello you")
        await bus.channel.unary(Echo.swap, Text(), fds=[reader])
        for method in (Echo.nowhere, Echo.crash):
            with pytest.raises(BusError):
                await bus.channel.unary(method, Text(), fds=[reader])
        with pytest.raises(BusError):
            await bus.channel.unary(Echo.fail, Failure(Code.ABORTED, "no"), fds=[reader])
        with pytest.raises(BusError, match="can't be decoded"):
            await bus.channel.unary(Echo.greet, Text(5), fds=[reader])
        with pytest.raises(TypeError):
            await bus.channel.unary(Echo.greet, Text(object()), fds=[reader])
        with pytest.raises(BusError, match="the peer accepts"):
            await bus.channel.unary(Echo.greet, Text("x" * 2_000_000), fds=[reader])
    await until(lambda: open_fds() == before)


async def test_fds_of_cancelled_calls_are_closed(bus):
    before = open_fds()
    with pipe(b"data") as reader:
        for turns in range(6):
            call = asyncio.create_task(bus.channel.unary_with_fds(Echo.hold, Text(), fds=[reader]))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        for turns in range(12):
            call = asyncio.create_task(bus.channel.unary_with_fds(Echo.swap, Text(), fds=[reader]))
            for _ in range(turns):
                await asyncio.sleep(0)
            if call.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await call
            else:
                os.close((await call)[1][0])
    await until(lambda: open_fds() == before)


async def test_fds_of_a_lost_channel_are_closed(bus):
    other = await bus.connect()
    await other.unary(Echo.greet, Text())
    before = open_fds()
    with pipe(b"data") as reader:
        calls = [asyncio.create_task(other.unary(Echo.hold, Text(), fds=[reader])) for _ in range(10)]
        await asyncio.wait_for(bus.service.entered.wait(), 10)
        other.close()
        assert {type(result) for result in await asyncio.gather(*calls, return_exceptions=True)} == {BusError}
    await until(lambda: open_fds() <= before and bus.server.connections == 1)


async def test_fds_travel_with_streamed_replies(bus):
    before = open_fds()
    async with bus.channel.server_stream(Echo.pipes, Count(5)) as replies:
        number = 0
        async for reply in replies:
            assert reply == Text(str(number))
            number += 1
        fds = replies.take_fds()
        assert [os.read(fd, 10) for fd in fds] == [b"0", b"1", b"2", b"3", b"4"]
        for fd in fds:
            os.close(fd)
    async with bus.channel.server_stream(Echo.pipes, Count(5)) as replies:
        await anext(replies)
    await until(lambda: open_fds() == before)


async def test_fds_travel_with_streamed_requests(bus):
    before = open_fds()
    async with bus.channel.client_stream(Echo.total) as call:
        for _ in range(10):
            with pipe(b"12345") as reader:
                await call.send(Blob(b"123"), fds=[reader])
        assert await call.finish() == Count(10, 80)
    with pipe(b"") as reader:
        async with bus.channel.bidi(Echo.chat) as call:
            await call.send(Text("bye"))
            with pytest.raises(BusError, match="bye"):
                await flood(call, Text("more"), fds=[reader])
    await until(lambda: open_fds() == before)


async def test_more_fds_than_the_kernel_carries_are_refused(bus):
    with pytest.raises(BusError, match="at most 253") as caught:
        await bus.channel.unary(Echo.greet, Text(), fds=[0] * 254)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    before = open_fds()
    await bus.channel.unary(Echo.greet, Text(), fds=[0] * 253)
    await until(lambda: open_fds() == before)


async def test_a_bad_fd_is_the_handlers_error(bus, caplog):
    with pytest.raises(BusError, match="Bad file descriptor") as caught:
        await bus.channel.unary(Echo.lend, Count(99999))
    assert caught.value.code is Code.UNKNOWN
    assert "Bad file descriptor" in caplog.text
    with pytest.raises(BusError, match="at most 253") as caught:
        await bus.channel.unary(Echo.lend, Count(-1))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


async def test_a_bad_fd_is_the_callers_error(bus):
    before = open_fds()
    with pytest.raises(OSError, match="Bad file descriptor"):
        await bus.channel.unary(Echo.greet, Text(), fds=[0, 99999])
    assert open_fds() == before
