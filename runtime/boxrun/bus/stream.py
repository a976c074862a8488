"""The two directions of a stream, with credit-based flow control.

The receiver grants credit in bytes; the sender stops when it has used it up. So a slow reader holds back the sender of its own
stream and nobody else, and each side buffers a bounded amount for it:

* a message costs its encoded size and a constant for its frame and object, so that empty messages aren't free;
* it may be sent while the credit is at least its cost or half the window, whichever is less (so a large message may overdraw);
* the receiver returns credit when half the window has been consumed, which is why half a window is always enough to go on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, Generic, TypeVar

from msgspec.msgpack import Decoder

from boxrun.bus import frames
from boxrun.bus.connection import Connection, encode
from boxrun.bus.context import close_fds
from boxrun.bus.status import MALFORMED, BusError, Code, ProtocolError

_T = TypeVar("_T")

OVERHEAD: Final = 64
"""What a message costs beside its size, in bytes."""

_BURST: Final = 256 * 1024
"""Bytes a sender may send before it lets the event loop turn."""


class Outbound:
    """The sending direction of a call's stream."""

    __slots__ = ("_burst", "_call", "_connection", "_credit", "_error", "_half", "_lock", "_name", "_waiters", "ended")

    def __init__(self, connection: Connection, call: int, name: str) -> None:
        self._connection = connection
        self._call = call
        self._name = name
        self._credit = connection.send_window
        self._half = connection.send_window // 2
        self._burst = 0
        self._error: BusError | None = None
        self._lock = asyncio.Lock()
        self._waiters: list[asyncio.Future[None]] = []
        self.ended = False

    async def send(self, message: Any, fds: tuple[int, ...] = ()) -> None:
        """Send a message; waits while the receiver or the connection lags. ``fds`` are the bus's from now on, in any case.

        Raises BusError: the call has ended, or RESOURCE_EXHAUSTED for a message the peer doesn't accept.
        """
        try:
            self._check()
            if fds or self._credit < self._half or self._lock.locked():
                payload = encode(message)
                async with self._lock:
                    await self._wait_for_credit(len(payload) + OVERHEAD)
                    self._check()
                    taken, fds = fds, ()
                    self._send_encoded(payload, taken)
            else:
                sent = self._connection.write_message(frames.MESSAGE, 0, self._call, b"", message)
                self._credit -= sent + OVERHEAD
                self._burst += sent + OVERHEAD
        finally:
            close_fds(fds)
        transport = self._connection.transport
        if transport.unsent > transport.HIGH:
            self._burst = 0
            while transport.unsent > transport.LOW and not transport.closed and self._error is None:
                transport.when_drained(self._wake)
                await self._change()
        elif self._burst > _BURST:
            self._burst = 0
            await asyncio.sleep(0)

    def grant(self, credit: int) -> None:
        """The receiver allows ``credit`` more bytes. Raises ProtocolError if it grants more than it can have consumed."""
        self._credit += credit
        if self._credit > self._connection.send_window:
            raise ProtocolError("more credit than the window")
        self._wake()

    def fail(self, error: BusError) -> None:
        """The call has ended: later sends raise ``error``."""
        if self._error is None:
            self._error = error
            self._wake()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.copy()
        if self.ended:
            raise BusError(Code.FAILED_PRECONDITION, f"{self._name}: this side of the stream has ended")

    async def _wait_for_credit(self, cost: int) -> None:
        needed = min(cost, self._half)
        while self._credit < needed and self._error is None:
            await self._change()

    async def _change(self) -> None:
        """Wait until there is more credit or room, or the call has ended."""
        waiter = self._connection.loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _send_encoded(self, payload: bytes, fds: tuple[int, ...]) -> None:
        if fds:
            self._connection.write_with_fds(frames.MESSAGE, 0, self._call, payload, fds)
        elif len(payload) > self._connection.largest:
            raise self._connection.too_large(len(payload))
        else:
            self._connection.write(frames.MESSAGE, 0, self._call, payload)
        self._credit -= len(payload) + OVERHEAD
        self._burst += len(payload) + OVERHEAD

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Inbound(Generic[_T]):
    """The receiving direction of a call's stream: an asynchronous iterator over the messages, for one reader.

    Iterating raises the BusError the call ended with; ``malformed`` is the code for a message that doesn't decode.
    """

    __slots__ = (
        "_allowed",
        "_call",
        "_connection",
        "_consumed",
        "_decoder",
        "_ended",
        "_error",
        "_half",
        "_malformed",
        "_name",
        "_queue",
        "_waiter",
    )

    def __init__(self, connection: Connection, call: int, name: str, decoder: Decoder[_T], malformed: Code) -> None:
        self._connection = connection
        self._call = call
        self._name = name
        self._decoder = decoder
        self._malformed = malformed
        self._queue: deque[tuple[_T, int]] = deque()
        self._allowed = connection.limits.window
        self._half = connection.limits.window // 2
        self._consumed = 0
        self._ended = False
        self._error: BusError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> Inbound[_T]:
        return self

    async def __anext__(self) -> _T:
        while not self._queue:
            if self._ended:
                if self._error is not None:
                    raise self._error.copy()
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError(f"{self._name}: two tasks read one stream")
            self._waiter = self._connection.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        message, cost = self._queue.popleft()
        self._consumed += cost
        if self._consumed >= self._half and not self._ended:
            self._allowed += self._consumed
            self._connection.write(frames.CREDIT, 0, self._call, frames.CREDIT_PAYLOAD.pack(self._consumed))
            self._consumed = 0
        return message

    def deliver(self, payload: memoryview) -> BusError | None:
        """A message has arrived. Returns an error if it doesn't decode, which then ends the stream.

        Raises ProtocolError for a message beyond the credit.
        """
        if self._ended:
            return None
        cost = len(payload) + OVERHEAD
        if self._allowed < min(cost, self._half):
            raise ProtocolError("a message beyond the credit")
        self._allowed -= cost
        try:
            message = self._decoder.decode(payload)
        except MALFORMED as error:
            failure = BusError(self._malformed, f"{self._name}: a message can't be decoded: {error}")
            self.finish(failure)
            return failure
        self._queue.append((message, cost))
        self._wake()
        return None

    def finish(self, error: BusError | None = None) -> None:
        """No more messages will come; ``error`` says why where that's a failure."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._wake()

    def discard(self) -> None:
        """The reader has gone: drop what is queued."""
        self._queue.clear()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
