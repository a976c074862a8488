"""The in-process transport: two ends that hand each other frames in turns of the event loop.

Messages are encoded and file descriptors duplicated just as over a socket, so that the two transports behave alike.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from boxrun.bus.client import Channel
from boxrun.bus.connection import DEFAULT_LIMITS, Limits
from boxrun.bus.context import Peer
from boxrun.bus.server import Server
from boxrun.bus.service import Service
from boxrun.bus.transport import Receiver, Transport


class InProcessTransport(Transport):
    """One of two ends. What one end has sent stays with it until the other has read it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop, Peer(os.getpid(), os.geteuid(), os.getegid()))
        self._other: InProcessTransport | None = None
        self._reading = False
        self._pulling = False

    @classmethod
    def pair(cls, loop: asyncio.AbstractEventLoop) -> tuple[InProcessTransport, InProcessTransport]:
        """Two connected ends."""
        one, two = cls(loop), cls(loop)
        one._other, two._other = two, one
        return one, two

    def start(self, receiver: Receiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        self.resume_reading()

    def pause_reading(self) -> None:
        """Leave what the peer sends with it for now."""
        self._reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._wants_pull()

    def receive_now(self) -> None:
        """Deliver what the other end has sent, at most a buffer's worth."""
        other, receiver = self._other, self._receiver
        if self.closed or other is None or receiver is None:
            return
        room = receiver.reader.room()
        count, fds = other._give(room)
        if count:
            receiver.received(count, fds)
            other._progress()
            self._wants_pull()
        elif other.closed:
            self.abort("the peer closed the connection")

    def _give(self, room: memoryview) -> tuple[int, list[int]]:
        """Move bytes of the queue into ``room``, up to where the next file descriptors come: as recvmsg(2) does."""
        filled = 0
        fds: list[int] = []
        while self._queue and filled < len(room):
            chunk = self._queue[0]
            if chunk.fds:
                if filled:
                    break
                fds = list(chunk.fds)
                chunk.fds = ()
            count = min(len(chunk.data) - chunk.sent, len(room) - filled)
            with memoryview(chunk.data) as view:
                room[filled : filled + count] = view[chunk.sent : chunk.sent + count]
            filled += count
            chunk.sent += count
            self._queued -= count
            if chunk.sent == len(chunk.data):
                self._queue.popleft()
        return filled, fds

    def _write(self) -> None:
        if self._other is not None:
            self._other._wants_pull()

    def _wants_pull(self) -> None:
        """Read in the event loop's next turn, if there is anything to read."""
        other = self._other
        if self._reading and not self._pulling and not self.closed and other is not None and (other._queue or other.closed):
            self._pulling = True
            self._loop.call_soon(self._pull)

    def _pull(self) -> None:
        self._pulling = False
        if self._reading:
            self.receive_now()

    def _release(self) -> None:
        if self._other is not None:
            self._other._wants_pull()


def connect_in_process(server: Server, *, limits: Limits = DEFAULT_LIMITS) -> Channel:
    """A channel to a server of the same process and event loop."""
    loop = asyncio.get_running_loop()
    ours, theirs = InProcessTransport.pair(loop)
    server.accept(theirs)
    channel = Channel(ours, limits, loop)
    channel.start()
    return channel


def in_process(services: Iterable[Service], *, limits: Limits = DEFAULT_LIMITS) -> Channel:
    """A channel to services of the same process and event loop, which are served for as long as the channel is open."""
    return connect_in_process(Server(services, limits=limits), limits=limits)
