"""The serving side: connections, the calls open on them, and the server that owns them all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from boxrun.bus import frames
from boxrun.bus.connection import DEFAULT_LIMITS, Connection, Limits, encode, log
from boxrun.bus.context import Context, close_fds
from boxrun.bus.service import Handler, Service, handlers_of
from boxrun.bus.status import MALFORMED, BusError, Code, ProtocolError, encode_error
from boxrun.bus.stream import Inbound, Outbound
from boxrun.bus.transport import Transport


class ServedCall:
    """A call that is being served."""

    __slots__ = ("connection", "context", "ended", "handler", "id", "replies", "requests", "started", "task", "timer")

    def __init__(self, connection: ServerConnection, call: int, handler: Handler, context: Context) -> None:
        self.connection = connection
        self.id = call
        self.handler = handler
        self.context = context
        self.requests: Inbound[Any] | None = None
        self.replies: Outbound | None = None
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.started = False
        self.ended = False

    async def run(self, argument: Any) -> None:
        """Run the handler and answer the call with what comes of it."""
        self.started = True
        method, function = self.handler
        try:
            if self.replies is None:
                self._answer(await function(argument, self.context))
            else:
                await self._stream(self.replies, function(argument, self.context))
        except asyncio.CancelledError:
            self.finish(BusError(Code.CANCELLED, f"{method.name}: the handler was cancelled"))
        except BusError as error:
            self.finish(error)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises ends its own call only
            if not self.ended:
                log.exception("bus: the handler of %s failed", method.name)
            self.finish(BusError(Code.UNKNOWN, f"{method.name}: {type(error).__name__}: {error}"))
        finally:
            self.close()

    def finish(self, error: BusError | None = None) -> None:
        """Answer with a status, unless the call is over already."""
        if not self.ended:
            self.ended = True
            connection = self.connection
            payload = b"" if error is None else encode_error(error, connection.largest)
            connection.write(frames.STATUS, 0, self.id, payload)

    def cancel(self, error: BusError, *, tell: bool) -> None:
        """End the call before its handler does; ``tell`` the caller so."""
        if self.ended:
            return
        if tell:
            self.finish(error)
        self.ended = True
        self.context._cancel()
        if self.requests is not None:
            self.requests.finish(error)
        if self.replies is not None:
            self.replies.fail(error)
        if self.task is not None:
            self.task.cancel()
            if not self.started:  # then its coroutine's ``finally`` never runs
                self.close()

    def expire(self) -> None:
        """The deadline is past."""
        self.cancel(BusError(Code.DEADLINE_EXCEEDED, f"{self.handler.method.name}: the deadline is past"), tell=True)

    def close(self) -> None:
        """The handler has ended."""
        self.ended = True
        if self.timer is not None:
            self.timer.cancel()
        if self.requests is not None:
            self.requests.discard()
        self.context._close()
        self.connection.call_closed(self.id)

    def receive_fds(self, fds: tuple[int, ...]) -> None:
        """File descriptors have come with a later request. Raises ProtocolError if more pile up than one message can carry."""
        self.context._fds += fds
        if len(self.context._fds) > frames.MAX_FDS:
            raise ProtocolError(f"{self.handler.method.name}: too many file descriptors that nobody takes")

    def _answer(self, reply: Any) -> None:
        if self.ended:
            return
        connection = self.connection
        if self.context._reply_fds:
            payload = encode(reply)
            connection.write_with_fds(frames.MESSAGE, frames.END, self.id, payload, self.context._take_reply_fds())
        else:
            connection.write_message(frames.MESSAGE, frames.END, self.id, b"", reply)
        self.ended = True

    async def _stream(self, outbound: Outbound, replies: AsyncIterator[Any]) -> None:
        try:
            async for reply in replies:
                await outbound.send(reply, self.context._take_reply_fds())
        finally:
            close = getattr(replies, "aclose", None)
            if close is not None:
                await close()
        self.finish()


class ServerConnection(Connection):
    """A client's connection."""

    def __init__(self, transport: Transport, limits: Limits, loop: asyncio.AbstractEventLoop, server: Server) -> None:
        super().__init__(transport, limits, loop)
        self.draining = False
        self._server = server
        self._handlers = server.handlers
        self._calls: dict[int, ServedCall] = {}
        self._last = 0

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The handlers that run."""
        return [call.task for call in self._calls.values() if call.task is not None]

    def received(self, count: int, fds: list[int]) -> None:
        """Answer a batch of input. A client that doesn't read its replies isn't read from either."""
        super().received(count, fds)
        transport = self.transport
        if transport.unsent > transport.HIGH and not transport.closed:
            transport.pause_reading()
            transport.when_drained(transport.resume_reading)

    def drain(self) -> None:
        """Accept no more calls, and close when the last one is over."""
        self.draining = True
        self.write(frames.GOAWAY, 0, 0)
        if not self._calls:
            self.transport.close()

    def stop(self, error: BusError) -> None:
        """End every call with ``error``."""
        for call in list(self._calls.values()):
            call.cancel(error, tell=True)

    def call_closed(self, call: int) -> None:
        """A call's handler has ended."""
        self._calls.pop(call, None)
        if self.draining and not self._calls:
            self.transport.close()

    def _introduced(self) -> None:
        """A client has nothing to wait for: calls come right after its hello."""

    def _handle(self, kind: int, flags: int, call: int, payload: memoryview, fds: tuple[int, ...]) -> None:
        if kind == frames.OPEN:
            try:
                self._open(flags, call, payload, fds)
            except ProtocolError:
                close_fds(fds)
                raise
            return
        open_call = self._calls.get(call)
        if open_call is None or open_call.ended:
            close_fds(fds)
            return
        if fds:
            open_call.receive_fds(fds)
        if kind == frames.MESSAGE:
            if open_call.requests is None:
                raise ProtocolError(f"{open_call.handler.method.name}: a message on a call that takes one request")
            open_call.requests.deliver(payload)
        elif kind == frames.HALF:
            if open_call.requests is not None:
                open_call.requests.finish()
        elif kind == frames.CREDIT:
            if open_call.replies is not None:
                open_call.replies.grant(frames.decode_credit(payload))
        elif kind == frames.CANCEL:
            open_call.cancel(BusError(Code.CANCELLED, f"{open_call.handler.method.name}: cancelled by the caller"), tell=False)

    def _open(self, flags: int, number: int, payload: memoryview, fds: tuple[int, ...]) -> None:
        """Start a call. Takes the file descriptors unless it raises ProtocolError."""
        if number <= self._last:
            raise ProtocolError(f"call {number} after call {self._last}")
        self._last = number
        opening = frames.decode_opening(payload)
        handler = self._handlers.get(opening.method)
        if handler is None:
            self._refuse(number, Code.UNIMPLEMENTED, f"no method {opening.method.decode(errors='replace')}", fds)
            return
        method = handler.method
        if self.draining:
            self._refuse(number, Code.UNAVAILABLE, f"{method.name}: the server is shutting down", fds)
            return
        if len(self._calls) >= self.limits.max_calls:
            self._refuse(number, Code.RESOURCE_EXHAUSTED, f"{method.name}: {self.limits.max_calls} calls are open already", fds)
            return
        if bool(flags & frames.END) is method.request_streams:
            raise ProtocolError(f"{method.name}: called as a method of another kind")
        request: Any = None
        if not method.request_streams:
            try:
                request = method.request_decoder.decode(payload[opening.offset :])
            except MALFORMED as error:
                self._refuse(number, Code.INVALID_ARGUMENT, f"{method.name}: the request can't be decoded: {error}", fds)
                return
        deadline = self.loop.time() + opening.deadline / 1000 if opening.deadline else None
        call = ServedCall(self, number, handler, Context(self.transport.peer, self.loop, opening.metadata, deadline, fds))
        if method.request_streams:
            call.requests = request = Inbound(self, number, method.name, method.request_decoder, Code.INVALID_ARGUMENT)
        if method.reply_streams:
            call.replies = Outbound(self, number, method.name)
        if deadline is not None:
            call.timer = self.loop.call_at(deadline, call.expire)
        self._calls[number] = call
        call.task = task = _task(call.run(request), self.loop)
        if call.ended and not task.done():
            task.cancel()  # what ended the call found no task yet

    def _refuse(self, call: int, code: Code, message: str, fds: tuple[int, ...]) -> None:
        close_fds(fds)
        self.write(frames.STATUS, 0, call, encode_error(BusError(code, message), self.largest))

    def _ended(self, error: BusError) -> None:
        for call in list(self._calls.values()):
            call.cancel(error, tell=False)
        self._server.connection_lost(self)


class Server:
    """Serves ``services`` on any number of connections.

    Raises ValueError if two services share a method, TypeError where a contract's types can't be read.
    """

    GRACE = 5.0
    """Seconds that cancelled handlers have to end when the server closes."""

    def __init__(self, services: Iterable[Service], *, limits: Limits = DEFAULT_LIMITS) -> None:
        self.handlers = handlers_of(services)
        self.limits = limits
        self._connections: set[ServerConnection] = set()
        self._changed = asyncio.Event()
        self._closing = False

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def accept(self, transport: Transport) -> None:
        """Serve a connection; refused (closed) when there are too many or the server is closing."""
        if self._closing or len(self._connections) >= self.limits.max_connections:
            transport.abort("refused")
            return
        connection = ServerConnection(transport, self.limits, asyncio.get_running_loop(), self)
        self._connections.add(connection)
        connection.start()

    def connection_lost(self, connection: ServerConnection) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._changed.set()

    async def close(self, drain: float = 5.0) -> None:
        """Shut down: no new calls; open ones have ``drain`` seconds to end, then fail with UNAVAILABLE and get cancelled.

        Not to be awaited by a handler, whose own call it would wait for.
        """
        self._closing = True
        loop = asyncio.get_running_loop()
        for connection in list(self._connections):
            connection.drain()
        await self._wait_for_connections(loop.time() + drain)
        tasks: list[asyncio.Task[None]] = []
        for connection in list(self._connections):
            tasks += connection.tasks
            connection.stop(BusError(Code.UNAVAILABLE, "the server is shutting down"))
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=self.GRACE)
            for task in stuck:
                log.warning("bus: a handler ignores its cancellation: %r", task)
        await self._wait_for_connections(loop.time() + min(drain, self.GRACE))
        for connection in list(self._connections):
            connection.transport.abort("the server is shut down")

    async def _wait_for_connections(self, deadline: float) -> None:
        while self._connections:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return


def _task(coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """A task; where Python can (3.12), it runs at once up to its first wait, which most handlers never reach."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(coroutine, loop=loop, eager_start=True)
    return loop.create_task(coroutine)
