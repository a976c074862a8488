"""A contract with every kind of call, its service, and a client that speaks the wire by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, NoReturn

import msgspec
from boxrun.bus import BidiCall, BusError, ClientStreamCall, Code, Context, Service, bidi, client_stream, server_stream, unary
from boxrun.bus.frames import HEADER, HEADER_SIZE, HELLO, Hello, encode_frame, encode_hello


class Text(msgspec.Struct, frozen=True):
    """Some text."""

    text: str = ""


class Blob(msgspec.Struct, frozen=True):
    """Some bytes."""

    data: bytes = b""


class Count(msgspec.Struct, frozen=True):
    """How many messages, of how many bytes; below 0 endlessly many."""

    count: int
    size: int = 0


class Failure(msgspec.Struct, frozen=True):
    """How a call shall fail."""

    code: int
    message: str
    reason: str | None = None
    times: int = 1


class Reason(msgspec.Struct, frozen=True):
    """The detail of a failure."""

    reason: str


class Report(msgspec.Struct, frozen=True):
    """What a handler saw of its call."""

    metadata: dict[str, str]
    remaining: float | None
    pid: int
    uid: int


class Echo(Service):
    """Every kind of call."""

    @unary
    async def greet(self, request: Text, context: Context) -> Text: ...

    @unary
    async def mirror(self, request: Blob, context: Context) -> Blob: ...

    @unary
    async def fail(self, request: Failure, context: Context) -> Text: ...

    @unary
    async def crash(self, request: Text, context: Context) -> Text: ...

    @unary
    async def report(self, request: Text, context: Context) -> Report: ...

    @unary
    async def hold(self, request: Text, context: Context) -> Text: ...

    @unary
    async def swap(self, request: Text, context: Context) -> Text: ...

    @unary
    async def lend(self, request: Count, context: Context) -> Text: ...

    @unary
    async def nowhere(self, request: Text, context: Context) -> Text: ...

    @server_stream
    def count(self, request: Count, context: Context) -> AsyncIterator[Blob]: ...

    @server_stream
    def pipes(self, request: Count, context: Context) -> AsyncIterator[Text]: ...

    @client_stream
    async def total(self, requests: AsyncIterator[Blob], context: Context) -> Count: ...

    @client_stream
    async def ignore(self, requests: AsyncIterator[Blob], context: Context) -> Count: ...

    @bidi
    def chat(self, requests: AsyncIterator[Text], context: Context) -> AsyncIterator[Text]: ...


class EchoService(Echo):
    """The contract's implementation, which tells what happens to its handlers."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.let_go = asyncio.Event()
        self.produced = 0
        self.context: Context | None = None

    async def greet(self, request: Text, context: Context) -> Text:
        return Text(f"hello {request.text}")

    async def mirror(self, request: Blob, context: Context) -> Blob:
        return Blob(request.data)

    async def fail(self, request: Failure, context: Context) -> Text:
        reader, writer = os.pipe()
        context.send_fds([reader, writer])
        raise BusError(
            Code(request.code),
            request.message * request.times,
            detail=None if request.reason is None else Reason(request.reason),
        )

    async def crash(self, request: Text, context: Context) -> Text:
        raise LookupError(request.text)

    async def report(self, request: Text, context: Context) -> Report:
        return Report(dict(context.metadata), context.time_remaining(), context.peer.pid, context.peer.uid)

    async def hold(self, request: Text, context: Context) -> Text:
        self.context = context
        self.entered.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Text("let go")

    async def swap(self, request: Text, context: Context) -> Text:
        """Read each received descriptor to its end, and send back a pipe with what was read."""
        data = b""
        for fd in context.take_fds():
            with open(fd, "rb") as file:
                data += file.read()
        reader, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
        context.send_fds([reader])
        return Text(request.text)

    async def lend(self, request: Count, context: Context) -> Text:
        """Send this descriptor, or too many of them where it is negative."""
        context.send_fds([request.count] if request.count >= 0 else [os.dup(0) for _ in range(254)])
        return Text()

    async def count(self, request: Count, context: Context) -> AsyncIterator[Blob]:
        self.entered.set()
        try:
            while self.produced != request.count:
                self.produced += 1
                yield Blob(bytes(request.size))
        finally:
            self.cancelled.set()

    async def pipes(self, request: Count, context: Context) -> AsyncIterator[Text]:
        for number in range(request.count):
            reader, writer = os.pipe()
            os.write(writer, str(number).encode())
            os.close(writer)
            context.send_fds([reader])
            yield Text(str(number))

    async def total(self, requests: AsyncIterator[Blob], context: Context) -> Count:
        count = size = 0
        async for request in requests:
            count += 1
            size += len(request.data)
            for fd in context.take_fds():
                size += len(os.read(fd, 1000))
                os.close(fd)
        return Count(count, size)

    async def ignore(self, requests: AsyncIterator[Blob], context: Context) -> Count:
        self.entered.set()
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Count(0)

    async def chat(self, requests: AsyncIterator[Text], context: Context) -> AsyncIterator[Text]:
        async for request in requests:
            if request.text == "bye":
                raise BusError(Code.ABORTED, "bye")
            yield Text(request.text.upper())


def open_fds() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Turn the event loop until ``condition`` holds; TimeoutError after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.001)


async def flood(call: ClientStreamCall[Any, Any] | BidiCall[Any, Any], request: object, fds: Sequence[int] = ()) -> NoReturn:
    """Send ``request`` until the call fails."""
    while True:
        await call.send(request, fds=fds)


class RawClient:
    """A client that sends whatever bytes it is told to."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self._received = b""

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    async def send(self, data: bytes, fds: Iterable[int] = ()) -> None:
        """Send bytes, file descriptors with the first of them."""
        if fds:
            count = socket.send_fds(self.socket, [data], list(fds))
            data = data[count:]
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def hello(self, window: int = 1 << 20, max_payload: int = 1 << 24) -> None:
        """Send a hello, and take the server's."""
        await self.send(encode_frame(HELLO, payload=encode_hello(Hello(window, max_payload))))
        kind, _, _, _ = await self.frame()
        assert kind == HELLO

    async def frame(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, call, payload. EOFError at the connection's end."""
        while True:
            if len(self._received) >= HEADER_SIZE:
                length, kind, flags, _, call = HEADER.unpack_from(self._received)
                if len(self._received) >= HEADER_SIZE + length:
                    payload = self._received[HEADER_SIZE : HEADER_SIZE + length]
                    self._received = self._received[HEADER_SIZE + length :]
                    return kind, flags, call, payload
            await self._receive()

    async def ended(self) -> None:
        """Wait until the server has closed the connection; TimeoutError after 5 s."""
        async with asyncio.timeout(5):
            try:
                while True:
                    await self._receive()
            except EOFError:
                pass

    async def _receive(self) -> None:
        async with asyncio.timeout(10):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            except ConnectionResetError:
                data = b""
        if not data:
            raise EOFError
        self._received += data


def credit(amount: int) -> bytes:
    """A CREDIT frame's payload."""
    return struct.pack("<I", amount)
