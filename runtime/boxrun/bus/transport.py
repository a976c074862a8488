"""What a connection needs of a transport: batched writing with back pressure, and the reading side's callbacks."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from boxrun.bus.context import Peer, close_fds
from boxrun.bus.frames import FrameReader


class Receiver(Protocol):
    """The connection above a transport."""

    reader: FrameReader

    def received(self, count: int, fds: list[int]) -> None:
        """``count`` bytes were put into the reader's room; ``fds``, now the receiver's, came with them."""

    def lost(self, reason: str) -> None:
        """The transport is closed, for whichever side's reason; called once."""


class Chunk:
    """Bytes to send in one piece, with the file descriptors that travel with its first byte."""

    __slots__ = ("data", "fds", "sent")

    def __init__(self, data: bytearray, fds: tuple[int, ...]) -> None:
        self.data = data
        self.fds = fds
        self.sent = 0


class Transport(ABC):
    """A byte stream with file descriptors.

    Output is appended to :attr:`out`, followed by :meth:`appended`; everything appended in one turn of the event loop
    leaves in one system call.
    """

    FLUSH_AT: Final = 64 * 1024
    """Bytes in ``out`` that don't wait for the turn's end."""
    HIGH: Final = 512 * 1024
    """Bytes unsent above which senders wait."""
    LOW: Final = 128 * 1024
    """Bytes unsent below which they go on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Peer) -> None:
        self.peer = peer
        self.out = bytearray()
        self.closed = False
        self._loop = loop
        self._out_fds: tuple[int, ...] = ()
        self._queue: deque[Chunk] = deque()
        self._queued = 0
        self._scheduled = False
        self._closing = False
        self._drained: list[asyncio.Future[None]] = []
        self._receiver: Receiver | None = None

    @abstractmethod
    def start(self, receiver: Receiver) -> None:
        """Begin to read."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Leave what the peer sends with the kernel for now."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Read again."""

    @abstractmethod
    def receive_now(self) -> None:
        """Deliver what has already arrived, without waiting for the event loop to see it."""

    @abstractmethod
    def _write(self) -> None:
        """Send of ``_queue`` what can be sent at once, and have ``_progress`` called whenever more has been."""

    @abstractmethod
    def _release(self) -> None:
        """Close what the transport is made of."""

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        return self._queued + len(self.out)

    def appended(self) -> None:
        """``out`` has grown: see that it is sent."""
        if len(self.out) >= self.FLUSH_AT:
            self.flush()
        elif not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush_turn)

    def append_with_fds(self, frame: bytes, fds: tuple[int, ...]) -> None:
        """Append a frame whose file descriptors, which become the transport's to close, travel with it."""
        if self.closed:
            close_fds(fds)
            return
        self._seal()
        self._out_fds = fds
        self.out += frame
        self.appended()

    def cork(self) -> None:
        """Hold output back until :meth:`uncork`: a whole batch of input is being answered."""
        self._scheduled = True

    def uncork(self) -> None:
        """Send what has gathered since :meth:`cork`."""
        self._scheduled = False
        if self.out and not self.closed:
            self.flush()

    def flush(self) -> None:
        """Send now what can be sent without waiting."""
        if self.closed:
            self.out = bytearray()
            return
        self._seal()
        self._write()

    async def drain(self) -> None:
        """Wait until little is unsent, or the transport is closed."""
        while self.unsent > self.LOW and not self.closed:
            waiter = self._loop.create_future()
            self._drained.append(waiter)
            await waiter

    def when_drained(self, callback: Callable[[], None]) -> None:
        """Call back when little is unsent, or the transport is closed."""
        waiter = self._loop.create_future()
        waiter.add_done_callback(lambda _: callback())
        self._drained.append(waiter)

    def close(self) -> None:
        """Close once everything appended so far has been sent."""
        if self.closed or self._closing:
            return
        self._closing = True
        self.flush()
        self._progress()

    def abort(self, reason: str) -> None:
        """Close at once."""
        if self.closed:
            return
        self.closed = True
        self._release()
        for chunk in self._queue:
            close_fds(chunk.fds)
        close_fds(self._out_fds)
        self._out_fds = ()
        self._queue.clear()
        self._queued = 0
        self.out = bytearray()
        self._wake()
        if self._receiver is not None:
            self._receiver.lost(reason)

    def _flush_turn(self) -> None:
        if self._scheduled:
            self._scheduled = False
            if self.out:
                self.flush()

    def _seal(self) -> None:
        """Put ``out`` at the queue's end."""
        if self.out:
            self._queue.append(Chunk(self.out, self._out_fds))
            self._queued += len(self.out)
            self.out = bytearray()
            self._out_fds = ()

    def _progress(self) -> None:
        """Something was sent."""
        if self._drained and self.unsent <= self.LOW:
            self._wake()
        if self._closing and not self.closed and not self.unsent:
            self.abort("closed")

    def _wake(self) -> None:
        waiters, self._drained = self._drained, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
