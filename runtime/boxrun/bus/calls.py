"""Open calls, as their caller sees them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from boxrun.bus import frames
from boxrun.bus.context import close_fds, duplicated
from boxrun.bus.service import Method
from boxrun.bus.status import MALFORMED, BusError, Code, ProtocolError
from boxrun.bus.stream import Inbound, Outbound

if TYPE_CHECKING:
    from boxrun.bus.client import Channel

_Req = TypeVar("_Req")
_Rep = TypeVar("_Rep")


class Call(ABC):
    """A call of any kind. What isn't in the docstrings of its subclasses is for the channel."""

    __slots__ = ("_channel", "_fds", "id", "method", "timer")

    def __init__(self, channel: Channel, method: Method) -> None:
        self._channel = channel
        self._fds: tuple[int, ...] = ()
        self.id = 0
        self.method = method
        self.timer: asyncio.TimerHandle | None = None

    def take_fds(self) -> list[int]:
        """Take the file descriptors that have come with the replies so far; the caller closes them.

        Those that nobody takes are closed with the call.
        """
        taken, self._fds = self._fds, ()
        return list(taken)

    @abstractmethod
    def opened(self) -> None:
        """The call has its number."""

    def receive_fds(self, fds: tuple[int, ...]) -> None:
        """File descriptors have come with a message. Raises ProtocolError if more pile up than one message can carry."""
        self._fds += fds
        if len(self._fds) > frames.MAX_FDS:
            raise ProtocolError(f"{self.method.name}: too many file descriptors that nobody takes")

    @abstractmethod
    def message(self, flags: int, payload: memoryview) -> None:
        """A message has arrived."""

    @abstractmethod
    def end(self, error: BusError | None) -> None:
        """The call is over."""

    def grant(self, credit: int) -> None:
        """The server allows ``credit`` more bytes. Raises ProtocolError where requests don't stream."""
        raise ProtocolError(f"{self.method.name}: credit of {credit} bytes for a call that sends no more")

    def release(self) -> None:
        """The caller is done with the call: cancel it if it isn't over."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self._channel.cancel(self, BusError(Code.CANCELLED, f"{self.method.name}: cancelled by the caller"))
        if self._fds:
            close_fds(self._fds)
            self._fds = ()

    def _decode_reply(self, flags: int, payload: memoryview) -> Any:
        """The one reply of a method whose replies don't stream.

        Raises BusError if it doesn't decode, ProtocolError if more are to come.
        """
        if not flags & frames.END:
            raise ProtocolError(f"{self.method.name}: a single reply without its end")
        try:
            return self.method.reply_decoder.decode(payload)
        except MALFORMED as error:
            raise BusError(Code.INTERNAL, f"{self.method.name}: the reply can't be decoded: {error}") from error


class UnaryCall(Call):
    """One request, one reply."""

    __slots__ = ("future",)

    def __init__(self, channel: Channel, method: Method) -> None:
        super().__init__(channel, method)
        self.future: asyncio.Future[Any] = channel.loop.create_future()

    def opened(self) -> None:
        """The call has its number."""

    def message(self, flags: int, payload: memoryview) -> None:
        """The reply has arrived."""
        if self.future.done():
            return
        try:
            self.future.set_result(self._decode_reply(flags, payload))
        except BusError as error:
            self.future.set_exception(error)

    def end(self, error: BusError | None) -> None:
        """The call is over without a reply."""
        if not self.future.done():
            self.future.set_exception(error or BusError(Code.INTERNAL, f"{self.method.name}: ended without a reply"))

    def release(self) -> None:
        """The caller is done with the call."""
        super().release()
        if self.future.done() and not self.future.cancelled():
            self.future.exception()  # marks it as seen, where the caller was cancelled in the same turn


class StreamCall(Call):
    """A call where at least one side streams."""

    __slots__ = ()


class ServerStreamCall(StreamCall, Generic[_Rep]):
    """Replies that stream: iterate over them."""

    __slots__ = ("_replies",)
    _replies: Inbound[_Rep]

    def __aiter__(self) -> ServerStreamCall[_Rep]:
        return self

    async def __anext__(self) -> _Rep:
        return await self._replies.__anext__()

    def opened(self) -> None:
        """The call has its number."""
        self._replies = Inbound(self._channel, self.id, self.method.name, self.method.reply_decoder, Code.INTERNAL)

    def message(self, flags: int, payload: memoryview) -> None:
        """A reply has arrived."""
        failure = self._replies.deliver(payload)
        if flags & frames.END:
            self.end(failure)
        elif failure is not None:
            self._channel.cancel(self, failure)

    def end(self, error: BusError | None) -> None:
        """The call is over."""
        self._replies.finish(error)

    def release(self) -> None:
        """The caller is done with the call."""
        super().release()
        self._replies.discard()


class ClientStreamCall(StreamCall, Generic[_Req, _Rep]):
    """Requests that stream, and one reply: ``await call.send(request)`` as often as needed, then ``await call.finish()``."""

    __slots__ = ("_error", "_over", "_reply", "_requests")
    _requests: Outbound

    def __init__(self, channel: Channel, method: Method) -> None:
        super().__init__(channel, method)
        self._over = asyncio.Event()
        self._reply: Any = None
        self._error: BusError | None = None

    async def send(self, request: _Req, *, fds: Sequence[int] = ()) -> None:
        """Send a request, waiting while the handler lags. Raises the BusError the call has ended with."""
        await _send(self._requests, request, fds)

    async def finish(self) -> _Rep:
        """End the requests and wait for the reply. Raises BusError."""
        _half_close(self._channel, self._requests, self.id, over=self._over.is_set())
        await self._over.wait()
        if self._error is not None:
            raise self._error.copy()
        reply: _Rep = self._reply
        return reply

    def opened(self) -> None:
        """The call has its number."""
        self._requests = Outbound(self._channel, self.id, self.method.name)

    def message(self, flags: int, payload: memoryview) -> None:
        """The reply has arrived."""
        try:
            self._reply = self._decode_reply(flags, payload)
        except BusError as error:
            self._error = error
        self._end_requests()

    def end(self, error: BusError | None) -> None:
        """The call is over without a reply."""
        self._error = error or BusError(Code.INTERNAL, f"{self.method.name}: ended without a reply")
        self._end_requests()

    def grant(self, credit: int) -> None:
        """The server allows ``credit`` more bytes."""
        self._requests.grant(credit)

    def _end_requests(self) -> None:
        self._requests.fail(self._error or BusError(Code.FAILED_PRECONDITION, f"{self.method.name}: already answered"))
        self._over.set()


class BidiCall(ServerStreamCall[_Rep], Generic[_Req, _Rep]):
    """Both sides stream: ``send`` and ``half_close``, and iterate over the replies, in any order, from two tasks if need be."""

    __slots__ = ("_over", "_requests")
    _requests: Outbound

    async def send(self, request: _Req, *, fds: Sequence[int] = ()) -> None:
        """Send a request, waiting while the handler lags. Raises the BusError the call has ended with."""
        await _send(self._requests, request, fds)

    def half_close(self) -> None:
        """End the requests; replies may still come."""
        _half_close(self._channel, self._requests, self.id, over=self._over)

    def opened(self) -> None:
        """The call has its number."""
        super().opened()
        self._requests = Outbound(self._channel, self.id, self.method.name)
        self._over = False

    def end(self, error: BusError | None) -> None:
        """The call is over."""
        super().end(error)
        self._over = True
        self._requests.fail(error or BusError(Code.FAILED_PRECONDITION, f"{self.method.name}: the call is over"))

    def grant(self, credit: int) -> None:
        """The server allows ``credit`` more bytes."""
        self._requests.grant(credit)


async def _send(requests: Outbound, request: Any, fds: Sequence[int]) -> None:
    if fds:
        await requests.send(request, duplicated(fds))
    else:
        await requests.send(request)


def _half_close(channel: Channel, requests: Outbound, call: int, *, over: bool) -> None:
    if not requests.ended and not over:
        requests.ended = True
        channel.write(frames.HALF, 0, call)
