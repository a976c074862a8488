"""The calling side: a channel, and the calls that are open on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from boxrun.bus import frames
from boxrun.bus.calls import BidiCall, Call, ClientStreamCall, ServerStreamCall, StreamCall, UnaryCall
from boxrun.bus.connection import Connection, Limits, encode
from boxrun.bus.context import Context, close_fds, duplicated
from boxrun.bus.service import Method, method_of
from boxrun.bus.status import BusError, Code, decode_error
from boxrun.bus.transport import Transport

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")
_C = TypeVar("_C", bound=StreamCall)
_NO_REQUEST: Final = object()

UnaryMethod = Callable[[Any, _Req, Context], Awaitable[_Rep]]
ServerStreamMethod = Callable[[Any, _Req, Context], AsyncIterator[_Rep]]
ClientStreamMethod = Callable[[Any, AsyncIterator[_Req], Context], Awaitable[_Rep]]
BidiMethod = Callable[[Any, AsyncIterator[_Req], Context], AsyncIterator[_Rep]]


class Channel(Connection):
    """A connection to a server, carrying any number of calls at once.

    Methods are named through the contract class: ``await channel.unary(Clock.now, NowRequest())``. Every call takes

    * ``timeout`` in seconds, which travels with the call: both ends give it up when it is over;
    * ``metadata``: short strings beside the request;
    * ``fds``: file descriptors that travel with the request. They stay the caller's, to close
      at any time once the call was made.

    A call raises BusError: what the handler raised, DEADLINE_EXCEEDED, or UNAVAILABLE where connection or server are gone.
    Cancelling the task that awaits a call cancels its handler. The channel is an asynchronous context manager.
    """

    def __init__(self, transport: Transport, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport, limits, loop)
        self._calls: dict[int, Call] = {}
        self._last = 0
        self._refusal: BusError | None = None
        self._ready: asyncio.Event = asyncio.Event()
        self._gone: asyncio.Event = asyncio.Event()

    async def __aenter__(self) -> Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self.wait_closed()

    @property
    def closed(self) -> bool:
        """Whether new calls are refused: the connection is gone, or the server is shutting down."""
        return self._refusal is not None

    def close(self) -> None:
        """Close the connection. Calls still open fail with UNAVAILABLE, and their handlers get cancelled."""
        if not self.transport.closed:
            self._refuse(BusError(Code.UNAVAILABLE, "the channel was closed"))
            self.transport.abort("the channel was closed")

    async def wait_closed(self) -> None:
        """Wait until the connection is gone, whichever side ended it."""
        await self._gone.wait()

    async def wait_ready(self) -> None:
        """Wait until the server has answered for the first time. Raises BusError if the connection fails before."""
        if self.peer is None:
            await self._ready.wait()
            if self.peer is None and self._refusal is not None:
                raise self._refusal.copy()

    async def unary(
        self,
        method: UnaryMethod[_Req, _Rep],
        request: _Req,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> _Rep:
        """Call a method with one request and one reply. File descriptors in the reply are closed."""
        transport = self.transport
        call = UnaryCall(self, method_of(method, request_streams=False, reply_streams=False))
        if self.peer is None or transport.unsent > transport.HIGH:
            timeout = await self._writable(call, timeout)
        self._open(call, request, timeout, metadata, fds)
        try:
            reply: _Rep = await call.future
            return reply
        finally:
            call.release()

    async def unary_with_fds(
        self,
        method: UnaryMethod[_Req, _Rep],
        request: _Req,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> tuple[_Rep, list[int]]:
        """Call a method with one request and one reply, and take the file descriptors of the reply: the caller closes them."""
        call = UnaryCall(self, method_of(method, request_streams=False, reply_streams=False))
        timeout = await self._writable(call, timeout)
        self._open(call, request, timeout, metadata, fds)
        try:
            reply: _Rep = await call.future
            return reply, call.take_fds()
        finally:
            call.release()

    @asynccontextmanager
    async def server_stream(
        self,
        method: ServerStreamMethod[_Req, _Rep],
        request: _Req,
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> AsyncIterator[ServerStreamCall[_Rep]]:
        """Call a method whose replies stream: the value is the iterator over them. Leaving the block early cancels the call."""
        call = ServerStreamCall[_Rep](self, method_of(method, request_streams=False, reply_streams=True))
        timeout = await self._writable(call, timeout)
        self._open(call, request, timeout, metadata, fds)
        try:
            yield call
        finally:
            call.release()

    @asynccontextmanager
    async def client_stream(
        self,
        method: ClientStreamMethod[_Req, _Rep],
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> AsyncIterator[ClientStreamCall[_Req, _Rep]]:
        """Call a method whose requests stream: ``send`` them, then ``await finish()`` for the reply.

        Leaving the block before that cancels the call.
        """
        call = ClientStreamCall[_Req, _Rep](self, method_of(method, request_streams=True, reply_streams=False))
        timeout = await self._writable(call, timeout)
        self._open(call, _NO_REQUEST, timeout, metadata, fds)
        try:
            yield call
        finally:
            call.release()

    @asynccontextmanager
    async def bidi(
        self,
        method: BidiMethod[_Req, _Rep],
        *,
        timeout: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fds: Sequence[int] = (),
    ) -> AsyncIterator[BidiCall[_Req, _Rep]]:
        """Call a method where both sides stream: ``send``, ``half_close``, and iterate over the replies, in any order.

        Leaving the block early cancels the call.
        """
        call = BidiCall[_Req, _Rep](self, method_of(method, request_streams=True, reply_streams=True))
        timeout = await self._writable(call, timeout)
        self._open(call, _NO_REQUEST, timeout, metadata, fds)
        try:
            yield call
        finally:
            call.release()

    async def _writable(self, call: Call, timeout: float | None) -> float | None:
        """Wait until a call can be made: the server has said hello, and took most of what was sent before.

        Returns what is left of ``timeout``. Raises BusError.
        """
        transport = self.transport
        if self.peer is not None and transport.unsent <= transport.HIGH:
            return timeout
        begin = self.loop.time()
        try:
            async with asyncio.timeout(timeout):
                await self.wait_ready()
                await transport.drain()
        except TimeoutError as error:
            raise BusError(Code.DEADLINE_EXCEEDED, f"{call.method.name}: couldn't be sent within {timeout:g} s") from error
        return None if timeout is None else timeout - (self.loop.time() - begin)

    def _open(
        self, call: Call, request: Any, timeout: float | None, metadata: Mapping[str, str] | None, fds: Sequence[int]
    ) -> None:
        """Send the OPEN frame and register the call."""
        if self._refusal is not None:
            raise self._refusal.copy()
        method = call.method
        self._last = call.id = self._last + 1
        prefix = method.opening if timeout is None and not metadata else _opening(method, timeout, metadata)
        flags = 0 if request is _NO_REQUEST else frames.END
        if fds:
            payload = prefix if request is _NO_REQUEST else prefix + encode(request)
            self.write_with_fds(frames.OPEN, flags, call.id, payload, duplicated(fds))
        elif request is _NO_REQUEST:
            self.write(frames.OPEN, flags, call.id, prefix)
        else:
            self.write_message(frames.OPEN, flags, call.id, prefix, request)
        self._calls[call.id] = call
        call.opened()
        if timeout is not None:
            call.timer = self.loop.call_later(timeout, self._expire, call, timeout)

    def _expire(self, call: Call, timeout: float) -> None:
        self.cancel(call, BusError(Code.DEADLINE_EXCEEDED, f"{call.method.name}: no end within {timeout:g} s"))

    def cancel(self, call: Call, error: BusError) -> None:
        """End a call from this side, here with ``error``; its handler gets cancelled."""
        if self._calls.pop(call.id, None) is not None:
            self.write(frames.CANCEL, 0, call.id)
            call.end(error)

    def _introduced(self) -> None:
        self._ready.set()

    def _handle(self, kind: int, flags: int, call: int, payload: memoryview, fds: tuple[int, ...]) -> None:
        open_call = self._calls.get(call)
        if open_call is None:
            close_fds(fds)
            if kind == frames.GOAWAY:
                self._refuse(BusError(Code.UNAVAILABLE, "the server is shutting down"))
            return
        if kind == frames.MESSAGE:
            if fds:
                open_call.receive_fds(fds)
            if flags & frames.END:
                del self._calls[call]
            open_call.message(flags, payload)
            return
        close_fds(fds)
        if kind == frames.STATUS:
            error = decode_error(payload) if len(payload) else None
            del self._calls[call]
            open_call.end(error)
        elif kind == frames.CREDIT:
            open_call.grant(frames.decode_credit(payload))

    def _refuse(self, error: BusError) -> None:
        if self._refusal is None:
            self._refusal = error

    def _ended(self, error: BusError) -> None:
        self._refuse(error)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.end(BusError(error.code, f"{call.method.name}: {error.message}"))
        self._ready.set()
        self._gone.set()


def _opening(method: Method, timeout: float | None, metadata: Mapping[str, str] | None) -> bytes:
    """The OPEN payload's start. Raises BusError where the deadline is past already or the metadata is too long."""
    deadline = 0
    if timeout is not None:
        if timeout <= 0:
            raise BusError(Code.DEADLINE_EXCEEDED, f"{method.name}: no time left")
        deadline = min(max(int(timeout * 1000), 1), frames.LARGEST_DEADLINE)
    try:
        return frames.encode_opening(method.name.encode(), deadline, dict(metadata) if metadata else None)
    except ValueError as error:
        raise BusError(Code.INVALID_ARGUMENT, f"{method.name}: {error}") from error
