"""The four kinds of calls, on every transport."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import msgspec
import pytest
from boxrun.bus import BusError, Code, Context, Service, in_process, server_stream, unary
from support.bus import Blob, Count, Echo, Failure, Reason, Text, flood, until


class Newer:
    """The contract as a newer version has it."""

    class Text(msgspec.Struct, frozen=True):
        text: str = ""
        language: str = "en"

    class Echo(Service):
        @unary
        async def greet(self, request: Newer.Text, context: Context) -> Newer.Text: ...

        @unary
        async def invented(self, request: Newer.Text, context: Context) -> Newer.Text: ...


class Other:
    """The contract with types that don't fit."""

    class Echo(Service):
        @unary
        async def greet(self, request: Count, context: Context) -> Text: ...

        @unary
        async def mirror(self, request: Blob, context: Context) -> Count: ...

        @server_stream
        def count(self, request: Count, context: Context) -> AsyncIterator[Count]: ...


async def test_unary(bus):
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_many_unary_calls_at_once(bus):
    replies = await asyncio.gather(*(bus.channel.unary(Echo.mirror, Blob(b"%d" % n)) for n in range(90)))
    assert replies == [Blob(b"%d" % n) for n in range(90)]


@pytest.mark.parametrize("size", [0, 1, 4000, 65536, 262144, 1000_000])
async def test_messages_of_any_size(bus, size):
    data = os.urandom(size)
    assert await bus.channel.unary(Echo.mirror, Blob(data)) == Blob(data)


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
async def test_every_status_code_travels_with_its_detail(bus, code):
    with pytest.raises(BusError, match=f"{code.name}: no way") as caught:
        await bus.channel.unary(Echo.fail, Failure(code, "no way", "because"))
    assert caught.value.code is code
    assert caught.value.message == "no way"
    assert caught.value.detail(Reason) == Reason("because")
    assert caught.value.detail(Text) is None


async def test_an_error_without_detail_has_none(bus):
    with pytest.raises(BusError) as caught:
        await bus.channel.unary(Echo.fail, Failure(Code.NOT_FOUND, "no such thing"))
    assert caught.value.detail(Reason) is None


async def test_a_message_too_long_for_a_status_is_cut(bus):
    with pytest.raises(BusError) as caught:
        await bus.channel.unary(Echo.fail, Failure(Code.NOT_FOUND, "x" * 1000, "y", 2000))
    assert caught.value.code is Code.NOT_FOUND
    assert 200_000 < len(caught.value.message) < 300_000
    assert caught.value.detail(Reason) is None


async def test_an_unexpected_exception_is_unknown_and_logged(bus, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(BusError, match=r"Echo.crash: LookupError: oh no") as caught:
        await bus.channel.unary(Echo.crash, Text("oh no"))
    assert caught.value.code is Code.UNKNOWN
    assert "LookupError: oh no" in caplog.text


@pytest.mark.parametrize("method", [Echo.nowhere, Newer.Echo.invented])
async def test_a_method_that_the_server_lacks_is_unimplemented(bus, method):
    with pytest.raises(BusError, match=method.__name__) as caught:
        await bus.channel.unary(method, Text())
    assert caught.value.code is Code.UNIMPLEMENTED


async def test_unknown_fields_are_ignored_and_missing_ones_defaulted(bus):
    assert await bus.channel.unary(Newer.Echo.greet, Newer.Text("you", "fr")) == Newer.Text("hello you", "en")


async def test_a_request_that_does_not_decode_is_invalid(bus):
    with pytest.raises(BusError, match=r"Echo\.mirror") as caught:
        await bus.channel.unary(Other.Echo.mirror, Blob("text"))
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert await bus.channel.unary(Echo.greet, Text("again")) == Text("hello again")


async def test_a_reply_that_does_not_decode_is_internal(bus):
    with pytest.raises(BusError, match="the reply can't be decoded") as caught:
        await bus.channel.unary(Other.Echo.mirror, Blob(b"x"))
    assert caught.value.code is Code.INTERNAL


async def test_a_streamed_reply_that_does_not_decode_ends_the_call(bus):
    async with bus.channel.server_stream(Other.Echo.count, Count(-1, 10)) as replies:
        with pytest.raises(BusError, match="can't be decoded") as caught:
            await anext(replies)
    assert caught.value.code is Code.INTERNAL
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)


async def test_a_streamed_request_that_does_not_decode_fails_the_call(bus):
    async with bus.channel.client_stream(Echo.total) as call:
        await call.send(Blob("text"))
        with pytest.raises(BusError, match="can't be decoded") as caught:
            await call.finish()
    assert caught.value.code is Code.INVALID_ARGUMENT


async def test_what_cannot_be_encoded_is_the_callers_type_error(bus):
    with pytest.raises(TypeError):
        await bus.channel.unary(Echo.greet, Text(object()))
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_a_message_above_the_limit_fails_its_call_alone(bus):
    with pytest.raises(BusError, match="the peer accepts 1048576") as caught:
        await bus.channel.unary(Echo.mirror, Blob(bytes(1024 * 1024)))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    async with bus.channel.server_stream(Echo.count, Count(1, 1024 * 1024)) as replies:
        with pytest.raises(BusError) as caught:
            await anext(replies)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert await bus.channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_metadata_and_peer(bus):
    report = await bus.channel.unary(Echo.report, Text(), metadata={"trace": "4711", "caller": "töst"})
    assert report.metadata == {"trace": "4711", "caller": "töst"}
    assert (report.pid, report.uid) == (os.getpid(), os.geteuid())
    assert report.remaining is None
    assert (await bus.channel.unary(Echo.report, Text())).metadata == {}


async def test_metadata_too_long_is_refused(bus):
    with pytest.raises(BusError, match="metadata too long") as caught:
        await bus.channel.unary(Echo.report, Text(), metadata={"trace": "x" * 65536})
    assert caught.value.code is Code.INVALID_ARGUMENT


async def test_server_stream(bus):
    async with bus.channel.server_stream(Echo.count, Count(1000, 500)) as replies:
        assert [len(reply.data) async for reply in replies] == [500] * 1000


async def test_server_stream_may_be_empty(bus):
    async with bus.channel.server_stream(Echo.count, Count(0)) as replies:
        assert [reply async for reply in replies] == []


async def test_messages_above_the_window_pass(bus):
    async with bus.channel.server_stream(Echo.count, Count(5, 900_000)) as replies:
        assert [len(reply.data) async for reply in replies] == [900_000] * 5


async def test_leaving_a_stream_early_ends_its_handler(bus):
    async with bus.channel.server_stream(Echo.count, Count(-1, 100)) as replies:
        assert await anext(replies) == Blob(bytes(100))
    await asyncio.wait_for(bus.service.cancelled.wait(), 10)


async def test_a_stream_of_an_unknown_method_is_unimplemented(bus):
    class Lost:
        class Echo(Service):
            @server_stream
            def lost(self, request: Count, context: Context) -> AsyncIterator[Blob]: ...

    async with bus.channel.server_stream(Lost.Echo.lost, Count(1)) as replies:
        with pytest.raises(BusError) as caught:
            await anext(replies)
    assert caught.value.code is Code.UNIMPLEMENTED


async def test_client_stream(bus):
    async with bus.channel.client_stream(Echo.total) as call:
        for number in range(1000):
            await call.send(Blob(bytes(number)))
        assert await call.finish() == Count(1000, 499_500)


async def test_client_stream_may_be_answered_early(bus):
    bus.service.let_go.set()
    async with bus.channel.client_stream(Echo.ignore) as call:
        await asyncio.wait_for(bus.service.entered.wait(), 10)
        with pytest.raises(BusError, match="already answered") as caught:
            await flood(call, Blob(bytes(1000)))
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert await call.finish() == Count(0)


async def test_no_more_requests_after_the_end(bus):
    async with bus.channel.bidi(Echo.chat) as call:
        call.half_close()
        call.half_close()
        with pytest.raises(BusError, match="has ended"):
            await call.send(Text("late"))


async def test_bidi(bus):
    async with bus.channel.bidi(Echo.chat) as call:
        for text in ("a", "b", "c"):
            await call.send(Text(text))
            assert await anext(call) == Text(text.upper())
        call.half_close()
        assert [reply async for reply in call] == []


async def test_bidi_error_comes_after_the_replies_before_it(bus):
    async with bus.channel.bidi(Echo.chat) as call:
        for text in ("a", "b", "bye"):
            await call.send(Text(text))
        assert [(await anext(call)).text, (await anext(call)).text] == ["A", "B"]
        with pytest.raises(BusError, match="bye") as caught:
            await anext(call)
        assert caught.value.code is Code.ABORTED
        with pytest.raises(BusError, match="bye"):
            await call.send(Text("more"))


async def test_both_sides_of_a_bidi_call_flow_at_once(bus):
    async with bus.channel.bidi(Echo.chat) as call, asyncio.TaskGroup() as group:

        async def talk() -> None:
            for number in range(2000):
                await call.send(Text(f"x{number}" * 20))
            call.half_close()

        group.create_task(talk())
        assert [reply.text async for reply in call] == [f"X{number}" * 20 for number in range(2000)]


async def test_concurrent_senders_share_a_stream(bus):
    async with bus.channel.client_stream(Echo.total) as call:
        async with asyncio.TaskGroup() as group:
            for _ in range(20):
                group.create_task(send_many(call))
        assert await call.finish() == Count(1000, 10_000_000)


async def send_many(call) -> None:
    for _ in range(50):
        await call.send(Blob(bytes(10_000)))


async def test_too_many_calls_at_once(bus):
    held = [asyncio.create_task(bus.channel.unary(Echo.hold, Text())) for _ in range(100)]
    await asyncio.wait_for(bus.service.entered.wait(), 10)
    with pytest.raises(BusError, match="100 calls are open already") as caught:
        await bus.channel.unary(Echo.greet, Text())
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    bus.service.let_go.set()
    assert await asyncio.gather(*held) == [Text("let go")] * 100


async def test_a_method_must_be_named_through_its_contract(bus):
    with pytest.raises(TypeError, match="isn't a method of a contract"):
        await bus.channel.unary(type(bus.service).greet, Text())
    with pytest.raises(TypeError, match="another kind"):
        await bus.channel.unary(Echo.count, Count(1))


async def test_two_services_cannot_share_a_method(bus):
    with pytest.raises(ValueError, match=r"two services implement Echo\.greet"):
        in_process([bus.service, bus.service])


async def test_a_contract_is_not_its_implementation():
    with pytest.raises(TypeError, match="Echo overrides no method"):
        in_process([Echo()])


async def test_types_must_be_annotated():
    class Vague(Service):
        @unary
        async def guess(self, request, context: Context) -> Text: ...

        @server_stream
        def guesses(self, request: Text, context: Context) -> AsyncIterator: ...

    class VagueService(Vague):
        async def guess(self, request, context):
            return Text()

    class VagueStream(Vague):
        async def guesses(self, request, context):
            yield Text()

    with pytest.raises(TypeError, match="doesn't annotate 'request'"):
        in_process([VagueService()])
    with pytest.raises(TypeError, match="annotate it AsyncIterator"):
        in_process([VagueStream()])


async def test_in_process_convenience(bus):
    async with in_process([bus.service]) as channel:
        assert await channel.unary(Echo.greet, Text("you")) == Text("hello you")
    assert channel.closed


async def test_calls_on_a_closed_channel_are_unavailable(bus):
    bus.channel.close()
    with pytest.raises(BusError, match="closed") as caught:
        await bus.channel.unary(Echo.greet, Text())
    assert caught.value.code is Code.UNAVAILABLE
    await until(lambda: bus.server.connections == 0)
