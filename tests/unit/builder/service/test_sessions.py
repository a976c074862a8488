"""Sessions: streams over one connection, with flow control, and what a client may not do."""

import asyncio
import contextlib
import socket

import msgspec
import pytest
from boxship.types.build_session import CHUNK, WINDOW, Frame
from boxshipd.builder.session_streams import Streams
from boxshipd.builder.sessions import BodySession, ClientSession, SessionRegistry
from boxshipd.errors import Conflict, InvalidParameter, NotFound, Unavailable

ID = "0123456789abcdef"


class Client:
    """The other side: keeps what it is sent, and sends what a test says."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[Frame] = asyncio.Queue()
        self.gone = False
        self.streams = Streams(self.take)
        self.session = ClientSession(self.streams)

    async def take(self, message: bytes) -> None:
        if self.gone:
            raise ConnectionResetError
        self.frames.put_nowait(msgspec.msgpack.decode(message, type=Frame))

    async def next(self, kind: str) -> Frame:
        while (frame := await self.frames.get()).kind != kind:
            pass
        return frame

    def say(self, **fields) -> None:
        self.streams.received(msgspec.msgpack.encode(Frame(**fields)))


@pytest.fixture
async def client():
    client = Client()
    yield client
    await client.session.close()


async def test_a_secret_is_asked_for_by_its_name(client):
    asked = asyncio.create_task(client.session.secret("token"))
    opened = await client.next("open")
    assert (opened.method, opened.name, opened.stream % 2) == ("secret", "token", 1)
    client.say(stream=opened.stream, kind="data", data=b"sw")
    client.say(stream=opened.stream, kind="data", data=b"ordfish")
    client.say(stream=opened.stream, kind="end")
    assert await asked == b"swordfish"


async def test_what_the_client_does_not_have_is_not_found(client):
    asked = asyncio.create_task(client.session.context("docs"))
    opened = await client.next("open")
    client.say(stream=opened.stream, kind="error", missing=True, message="no such context")
    with pytest.raises(NotFound, match="context docs: no such context"):
        await asked


async def test_a_context_comes_as_fast_as_it_is_read(client):
    asked = asyncio.create_task(client.session.context("context"))
    opened = await client.next("open")
    client.say(stream=opened.stream, kind="data", data=b"a" * CHUNK)
    pieces = await asked
    assert (await client.next("ack")).count == CHUNK
    client.say(stream=opened.stream, kind="data", data=b"b" * 10)
    client.say(stream=opened.stream, kind="end")
    assert b"".join([piece async for piece in pieces]) == b"a" * CHUNK + b"b" * 10


async def test_more_than_was_allowed_ends_the_session(client):
    asked = asyncio.create_task(client.session.secret("x"))
    opened = await client.next("open")
    for _ in range(WINDOW // CHUNK):
        client.say(stream=opened.stream, kind="data", data=bytes(CHUNK))
    with pytest.raises(InvalidParameter, match="more than was allowed"):
        client.say(stream=opened.stream, kind="data", data=b"x")
    with pytest.raises(InvalidParameter, match="more than the"):
        await asked


async def test_an_archive_is_sent_as_fast_as_the_client_takes_it(client):
    async def archive():
        yield bytes(WINDOW + 1)

    sent = asyncio.create_task(client.session.receive("0", archive()))
    opened = await client.next("open")
    assert (opened.method, opened.name) == ("receive", "0")
    arrived = 0
    while arrived < WINDOW:
        frame = await client.next("data")
        assert len(frame.data) <= CHUNK
        arrived += len(frame.data)
    await asyncio.sleep(0)
    assert client.frames.empty()
    client.say(stream=opened.stream, kind="ack", count=CHUNK)
    assert len((await client.next("data")).data) == 1
    await client.next("end")
    assert not sent.done(), "the client hasn't said that it has it"
    client.say(stream=opened.stream, kind="end")
    await sent


async def test_what_the_client_cannot_take_is_an_error(client):
    async def archive():
        yield b"x"

    sent = asyncio.create_task(client.session.receive("0", archive()))
    opened = await client.next("open")
    client.say(stream=opened.stream, kind="error", message="no space left on device")
    with pytest.raises(InvalidParameter, match="no space left"):
        await sent


async def test_an_agent_is_a_socket(client):
    fd = await client.session.agent("default")
    with socket.socket(fileno=fd) as connection:
        connection.setblocking(False)
        opened = await client.next("open")
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, b"question")
        assert (await client.next("data")).data == b"question"
        client.say(stream=opened.stream, kind="data", data=b"answer")
        assert await loop.sock_recv(connection, 100) == b"answer"
        client.say(stream=opened.stream, kind="end")
        assert await loop.sock_recv(connection, 100) == b""


async def test_whoever_waits_for_a_client_that_goes_is_told(client):
    asked = asyncio.create_task(client.session.secret("x"))
    await client.next("open")
    await client.session.close()
    with pytest.raises(Unavailable, match="went away"):
        await asked
    with pytest.raises(Unavailable, match="went away"):
        await client.session.secret("y")


async def test_a_connection_that_breaks_is_a_client_that_went(client):
    client.gone = True
    with pytest.raises(Unavailable, match="went away"):
        await client.session.secret("x")


async def test_a_stream_that_is_given_up_is_told_to_the_client(client):
    asked = asyncio.create_task(client.session.secret("x"))
    opened = await client.next("open")
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    assert (await client.next("error")).stream == opened.stream
    # What was on its way is nobody's any more.
    client.say(stream=opened.stream, kind="data", data=b"late")


@pytest.mark.parametrize("message", [b"", b"\x00", b"garbage", msgspec.msgpack.encode({"stream": "x", "kind": "data"})])
async def test_what_is_no_frame_is_refused(client, message):
    with pytest.raises(InvalidParameter, match="invalid frame"):
        client.streams.received(message)


async def test_only_the_daemon_opens_streams(client):
    with pytest.raises(InvalidParameter, match="only the daemon"):
        client.say(stream=2, kind="open", method="secret")


async def test_a_build_may_be_faster_than_its_session():
    registry = SessionRegistry()
    found = asyncio.create_task(registry.find(ID))
    await asyncio.sleep(0)
    client = Client()
    async with registry.joined(ID, client.take):
        assert isinstance(await found, ClientSession)
        with pytest.raises(Conflict, match="there already"):
            async with registry.joined(ID, client.take):
                pass


@pytest.mark.parametrize("name", ["", "short", "x" * 129, "../../etc/passwd-or-so", "0123456789abcdef\n"])
async def test_ids_that_can_be_guessed_are_refused(name):
    with pytest.raises(InvalidParameter, match="16 to 128"):
        await SessionRegistry().find(name)


async def test_a_body_is_the_context_once():
    async def body():
        yield b"archive"

    session = BodySession(body())
    with pytest.raises(NotFound):
        await session.context("other")
    assert [piece async for piece in await session.context("context")] == [b"archive"]
    with pytest.raises(NotFound):
        await session.context("context")
    for asked in (session.secret("x"), session.agent("x"), session.receive("x", body())):
        with pytest.raises(NotFound):
            await asked
