"""Deadlines, cancellation, loss and draining, on every transport."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc

import pytest
from boxrun.bus import BusError, Code
from support.bus import Blob, Count, Echo, Text, flood, until


async def test_a_deadline_travels_with_the_call(bus):
    report = await bus.channel.unary(Echo.report, Text(), timeout=20)
    assert report.remaining is not None
    assert 10 < report.remaining <= 20


async def test_a_deadline_ends_caller_and_handler(bus):
    with pytest.raises(BusError, match=r"Echo.hold") as caught:
        await bus.channel.unary(Echo.hold, Text(), timeout=1)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)
    assert bus.service.context.cancelled.is_set()


async def test_a_deadline_ends_streams(bus):
    async with bus.channel.server_stream(Echo.count, Count(-1, 1000), timeout=0.1) as replies:
        with pytest.raises(BusError) as caught:
            async for _ in replies:
                pass
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)
    async with bus.channel.client_stream(Echo.ignore, timeout=0.1) as call:
        with pytest.raises(BusError) as caught:
            await flood(call, Blob(bytes(1000)))
    assert caught.value.code is Code.DEADLINE_EXCEEDED


@pytest.mark.parametrize("timeout", [0, -1.5])
async def test_no_time_left(bus, timeout):
    with pytest.raises(BusError, match="no time left") as caught:
        await bus.channel.unary(Echo.hold, Text(), timeout=timeout)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert not bus.service.entered.is_set()


async def test_cancelling_the_caller_cancels_the_handler(bus):
    call = asyncio.create_task(bus.channel.unary(Echo.hold, Text()))
    await asyncio.wait_for(bus.service.entered.wait(), 10)
    event = bus.service.context.cancelled
    assert not event.is_set()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)
    assert event.is_set()
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_cancelling_before_the_handler_began(bus):
    call = asyncio.create_task(bus.channel.unary(Echo.hold, Text()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")
    assert not bus.service.entered.is_set() or bus.service.cancelled.is_set()


async def test_leaving_a_client_stream_cancels_its_handler(bus):
    async with bus.channel.client_stream(Echo.ignore):
        await asyncio.wait_for(bus.service.entered.wait(), 10)
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)


async def test_a_lost_channel_cancels_its_handlers_only(bus):
    other = await bus.connect()
    call = asyncio.create_task(other.unary(Echo.hold, Text()))
    await asyncio.wait_for(bus.service.entered.wait(), 10)
    other.close()
    with pytest.raises(BusError) as caught:
        await call
    assert caught.value.code is Code.UNAVAILABLE
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_a_slow_reader_stalls_nobody_else(bus):
    async with bus.channel.server_stream(Echo.count, Count(-1, 1000)) as replies:
        await asyncio.wait_for(bus.service.entered.wait(), 10)
        for _ in range(200):
            assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")
        held = bus.service.produced
        assert held * 1064 <= bus.limits.window + 2 * 1064
        for _ in range(held + 500):
            assert len((await anext(replies)).data) == 1000


async def test_a_slow_handler_stalls_nobody_else(bus):
    sent = 0
    async with bus.channel.client_stream(Echo.ignore) as call:

        async def send_and_count() -> None:
            nonlocal sent
            while True:
                await call.send(Blob(bytes(1000)))
                sent += 1

        flooding = asyncio.create_task(send_and_count())
        await asyncio.wait_for(bus.service.entered.wait(), 10)
        for _ in range(200):
            assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")
        assert 0 < sent * 1064 <= bus.limits.window
        flooding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await flooding


async def test_empty_messages_use_up_credit_too(bus):
    async with bus.channel.server_stream(Echo.count, Count(-1, 0)) as replies:
        await asyncio.wait_for(bus.service.entered.wait(), 10)
        for _ in range(200):
            await bus.channel.unary(Echo.greet, Text("you"))
        assert bus.service.produced <= bus.limits.window / 64
        assert await anext(replies) == Blob()


async def test_one_task_at_a_time_reads_a_stream(bus):
    async with bus.channel.bidi(Echo.chat) as call:
        reading = asyncio.ensure_future(anext(call))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="two tasks read one stream"):
            await anext(call)
        await call.send(Text("a"))
        assert await reading == Text("A")


async def test_draining_lets_open_calls_end(bus):
    held = asyncio.create_task(bus.channel.unary(Echo.hold, Text()))
    await asyncio.wait_for(bus.service.entered.wait(), 10)
    closing = asyncio.create_task(bus.server.close(drain=10))
    await until(lambda: bus.channel.closed)
    with pytest.raises(BusError, match="shutting down") as caught:
        await bus.channel.unary(Echo.greet, Text())
    assert caught.value.code is Code.UNAVAILABLE
    bus.service.let_go.set()
    assert await held == Text("let go")
    await asyncio.wait_for(closing, 5)
    await asyncio.wait_for(bus.channel.wait_closed(), 10)
    assert bus.server.connections == 0


async def test_draining_ends_when_its_time_is_over(bus):
    held = asyncio.create_task(bus.channel.unary(Echo.hold, Text()))
    await asyncio.wait_for(bus.service.entered.wait(), 10)
    await bus.server.close(drain=0.05)
    with pytest.raises(BusError, match="shutting down") as caught:
        await held
    assert caught.value.code is Code.UNAVAILABLE
    assert bus.service.cancelled.is_set()
    await asyncio.wait_for(bus.channel.wait_closed(), 10)


async def test_a_closed_server_refuses_connections(bus):
    await bus.server.close(drain=0)
    with pytest.raises(BusError) as caught:
        await (await bus.connect()).unary(Echo.greet, Text())
    assert caught.value.code is Code.UNAVAILABLE


async def test_lost_connections_hold_no_buffers_until_the_garbage_collector_comes(bus):
    async def lose() -> None:
        channel = await bus.connect()
        held = asyncio.create_task(channel.unary(Echo.hold, Text()))
        await channel.unary(Echo.greet, Text("you"))
        channel.close()
        with pytest.raises(BusError):
            await held
        await channel.wait_closed()

    connections, most = 20, 64 * 1024
    await lose()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(connections):
            await lose()
        await until(lambda: tracemalloc.get_traced_memory()[0] - before < connections * most)
    finally:
        tracemalloc.stop()
        gc.enable()
