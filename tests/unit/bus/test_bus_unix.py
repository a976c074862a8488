"""What is particular to the unix socket: its file, and peers that speak the wire by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import stat

import pytest
from boxrun.bus import BusError, Code, Limits, Service, connect_unix, frames, serve_unix
from boxrun.bus.status import decode_error
from support.bus import Blob, Count, Echo, EchoService, RawClient, Text, credit, flood, open_fds, until

IMPATIENT = Limits(handshake=0.05, keepalive=0.05, keepalive_timeout=0.05)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "bus.sock")


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
async def test_the_socket_has_its_mode_and_goes_with_the_server(path, mode):
    async with serve_unix(path, [EchoService()], mode=mode):
        status = os.stat(path)
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == mode
    assert not os.path.exists(path)


async def test_the_socket_of_a_dead_server_is_replaced(path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    async with serve_unix(path, [EchoService()]), await connect_unix(path) as channel:
        assert await channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_a_live_server_is_not_replaced(path):
    async with serve_unix(path, [EchoService()]), await connect_unix(path) as channel:
        with pytest.raises(OSError, match=r"Address already in use.*bus\.sock"):
            async with serve_unix(path, [EchoService()]):
                pass
        assert await channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_what_is_no_socket_is_not_replaced(path):
    with open(path, "w") as file:
        file.write("precious")
    with pytest.raises(OSError, match="Address already in use"):
        async with serve_unix(path, [EchoService()]):
            pass
    with open(path) as file:
        assert file.read() == "precious"


async def test_the_socket_of_a_successor_stays(path):
    async with serve_unix(path, [EchoService()], drain=0):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(path)
    assert os.path.exists(path)


async def test_a_path_longer_than_sun_path(tmp_path):
    directory = tmp_path / ("x" * 120) / ("y" * 120)
    directory.mkdir(parents=True)
    path = str(directory / "bus.sock")
    async with serve_unix(path, [EchoService()]), await connect_unix(path) as channel:
        assert await channel.unary(Echo.greet, Text("you")) == Text("hello you")
    assert not os.path.exists(path)


async def test_connecting_where_nobody_listens(path):
    before = open_fds()
    with pytest.raises(BusError, match=r"connect .*bus\.sock: No such file") as caught:
        await connect_unix(path)
    assert caught.value.code is Code.UNAVAILABLE
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with pytest.raises(BusError, match="Connection refused") as caught:
        await connect_unix(path)
    assert caught.value.code is Code.UNAVAILABLE
    assert open_fds() == before


async def test_connecting_to_a_server_that_says_nothing(path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        before = open_fds()
        with pytest.raises(BusError, match=r"no answer within 0\.05 s") as caught:
            await connect_unix(path, timeout=0.05)
        assert caught.value.code is Code.DEADLINE_EXCEEDED
        assert open_fds() == before


async def test_connecting_to_something_else(path):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    async with server:
        with pytest.raises(BusError) as caught:
            await connect_unix(path)
    assert caught.value.code is Code.UNAVAILABLE


async def test_the_server_enforces_the_deadline_itself(path):
    service = EchoService()
    async with serve_unix(path, [service], drain=0):
        with RawClient(path) as client:
            await client.hello()
            opening = frames.encode_opening(b"Echo.hold", 50) + b"\x80"
            await client.send(frames.encode_frame(frames.OPEN, frames.END, 1, opening))
            kind, _, call, payload = await client.frame()
            assert (kind, call) == (frames.STATUS, 1)
            assert decode_error(memoryview(payload)).code is Code.DEADLINE_EXCEEDED
            await asyncio.wait_for(service.cancelled.wait(), 10)


async def test_a_call_cancelled_in_the_breath_it_was_made_in_leaves_nothing(path):
    async with serve_unix(path, [EchoService()], drain=10):
        with RawClient(path) as client:
            await client.hello()
            before = open_fds()
            opening = frames.encode_opening(b"Echo.hold") + b"\x80"
            call = frames.encode_frame(frames.OPEN, frames.END, 1, opening, fds=1) + frames.encode_frame(frames.CANCEL, 0, 1)
            await client.send(call + frames.encode_frame(frames.PING), [0])
            assert (await client.frame())[0] == frames.PONG
            await until(lambda: open_fds() == before)
            begin = asyncio.get_running_loop().time()
    # Nothing was left to wait for.
    assert asyncio.get_running_loop().time() - begin < 5


async def test_the_server_stops_at_the_credit(path):
    service = EchoService()
    async with serve_unix(path, [service], drain=0):
        with RawClient(path) as client:
            await client.hello(window=10_000)
            opening = frames.encode_opening(b"Echo.count") + b"\x82\xa5count\xff\xa4size\xcd\x03\xe8"
            await client.send(frames.encode_frame(frames.OPEN, frames.END, 1, opening))
            for _ in range(5):
                assert (await client.frame())[0] == frames.MESSAGE
            await client.send(frames.encode_frame(frames.PING))
            count = 5
            while (await client.frame())[0] == frames.MESSAGE:
                count += 1
            # A message takes 1008 bytes and the overhead, and flows on half a window or its own cost.
            assert count == 9
            await client.send(frames.encode_frame(frames.CREDIT, 0, 1, credit(1080)))
            assert (await client.frame())[0] == frames.MESSAGE


async def test_a_dead_client_is_found_out(path):
    service = EchoService()
    async with serve_unix(path, [service], limits=IMPATIENT, drain=0) as server:
        with RawClient(path) as client:
            await client.hello()
            await client.send(frames.encode_frame(frames.OPEN, frames.END, 1, frames.encode_opening(b"Echo.hold") + b"\x80"))
            assert (await client.frame())[0] == frames.PING
            await client.ended()
            await asyncio.wait_for(service.cancelled.wait(), 10)
            await until(lambda: server.connections == 0)


async def test_a_silent_client_is_shown_out(path):
    async with serve_unix(path, [EchoService()], limits=IMPATIENT):
        with RawClient(path) as client:
            await client.ended()


async def test_an_idle_client_that_answers_pings_stays(path):
    async with serve_unix(path, [EchoService()], limits=IMPATIENT, drain=0) as server:
        with RawClient(path) as client:
            await client.hello()
            for _ in range(4):
                assert (await client.frame())[0] == frames.PING
                await client.send(frames.encode_frame(frames.PONG))
            assert server.connections == 1


async def test_a_dead_server_is_found_out(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        connecting = asyncio.create_task(connect_unix(path, limits=IMPATIENT))
        server, _ = await asyncio.get_running_loop().sock_accept(listener)
        with server:
            hello = frames.encode_hello(frames.Hello(1 << 20, 1 << 20))
            server.sendall(frames.encode_frame(frames.HELLO, payload=hello))
            channel = await connecting
            with pytest.raises(BusError, match="no sign of life") as caught:
                await channel.unary(Echo.greet, Text())
            assert caught.value.code is Code.UNAVAILABLE
            await channel.wait_closed()


async def test_deadlines_hold_where_the_server_does_not_even_read(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        connecting = asyncio.create_task(connect_unix(path))
        server, _ = await asyncio.get_running_loop().sock_accept(listener)
        with server:
            server.sendall(frames.encode_frame(frames.HELLO, payload=frames.encode_hello(frames.Hello(1 << 24, 1 << 24))))
            async with await connecting as channel:

                async def stream() -> None:
                    async with channel.client_stream(Echo.total, timeout=0.1) as call:
                        await flood(call, Blob(bytes(30_000)))

                calls = [channel.unary(Echo.mirror, Blob(bytes(30_000)), timeout=0.1) for _ in range(100)]
                results = await asyncio.gather(stream(), stream(), *calls, stream(), return_exceptions=True)
                assert {type(result) for result in results} == {BusError}
                assert {result.code for result in results} == {Code.DEADLINE_EXCEEDED}
                assert channel.transport.unsent < 2 * channel.transport.HIGH


async def test_a_client_that_reads_no_replies_is_not_read_from(path):
    """Memory stays bounded: the server holds a few replies, then leaves further requests in the socket."""
    limits = Limits(max_calls=1 << 20)
    async with serve_unix(path, [EchoService()], limits=limits, drain=0), await connect_unix(path) as other:
        with RawClient(path) as client:
            await client.hello()
            opening = frames.encode_opening(b"Echo.mirror") + b"\x81\xa4data\xc5\x80\x00" + bytes(32768)
            sent = 0

            async def flood() -> None:
                nonlocal sent
                while True:
                    await client.send(frames.encode_frame(frames.OPEN, frames.END, sent + 1, opening))
                    sent += 1

            flooding = asyncio.create_task(flood())
            last = -1
            while sent != last:
                last = sent
                for _ in range(50):
                    assert await other.unary(Echo.greet, Text("you")) == Text("hello you")
            assert sent * 32768 < 4 << 20
            for number in range(1, sent + 1):
                kind, _, call, _ = await client.frame()
                assert kind == frames.MESSAGE
                assert 1 <= call <= sent + 1000, number
            flooding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await flooding


async def test_too_many_connections(path):
    limits = Limits(max_connections=1)
    async with serve_unix(path, [EchoService()], limits=limits), await connect_unix(path) as channel:
        with pytest.raises(BusError) as caught:
            await connect_unix(path)
        assert caught.value.code is Code.UNAVAILABLE
        assert await channel.unary(Echo.greet, Text("you")) == Text("hello you")


async def test_a_service_of_nothing_is_fine(path):
    async with serve_unix(path, [Service()]), await connect_unix(path) as channel:
        with pytest.raises(BusError) as caught:
            await channel.unary(Echo.greet, Text())
        assert caught.value.code is Code.UNIMPLEMENTED
        async with channel.server_stream(Echo.count, Count(1)) as replies:
            with pytest.raises(BusError):
                await anext(replies)
