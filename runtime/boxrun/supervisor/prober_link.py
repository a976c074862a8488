"""The supervisor's end of a connection to a prober, which is as untrusted as the container it is confined with."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import MsgspecError, Struct, ValidationError

from boxrun.errors import BoxrunError
from boxrun.prober.protocol import MESSAGE_LIMIT, Ask, Attend, Report, Rest, Unable, decode_message, sound
from boxrun.shim.wire import encode, receive_inline, send

BURST = 32
"""Messages that are taken in at a time."""

PAUSE_SECONDS = 0.05
"""How long a prober isn't listened to that has said so much at once; an honest one never does."""


class ProberGoneError(BoxrunError):
    """The prober has ended, or never began."""


class ProberLink:
    """One connection.

    Args:
        container: the container's id.
        sock: a connected seqpacket socket, taken over.
        told: called when a report has come, which is ``report`` then, but for answers; ``heard`` is False for the first.
        ended: called once, when the connection is over by itself.
    """

    def __init__(
        self,
        container: str,
        sock: socket.socket,
        told: Callable[[ProberLink], None],
        ended: Callable[[ProberLink], None],
    ) -> None:
        self.container = container
        self._sock = sock
        self._told = told
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._greeted: asyncio.Future[Report] = self._loop.create_future()
        self._report: Report | None = None
        self._failure = ""
        self._closed = False
        self._pause: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def report(self) -> Report:
        """The latest. Raises ProberGoneError: there was none."""
        if self._report is None:
            raise ProberGoneError(self._failure or "its prober has said nothing")
        return self._report

    @property
    def heard(self) -> bool:
        """Whether the first report has been taken in."""
        return self._greeted.done()

    @property
    def run(self) -> int:
        """The container's run, 0 before the first report."""
        return self._report.run if self._report is not None else 0

    async def greeting(self) -> Report:
        """The first report. Raises ProberGoneError: it won't come."""
        return await asyncio.shield(self._greeted)

    def send(self, message: Struct, fds: Sequence[int] = ()) -> None:
        """Send a message. Raises ProberGoneError."""
        try:
            send(self._sock, encode(message), fds)
        except OSError as error:
            raise ProberGoneError(f"its prober can't be reached: {error.strerror}") from error

    async def ask(self) -> None:
        """Have the report brought up to date. Raises ProberGoneError."""
        number = next(self._numbers)
        await self._answered(number, Ask(sequence=number))

    async def rest(self, resting: bool) -> None:
        """Let probes rest, or go on. Raises ProberGoneError."""
        number = next(self._numbers)
        await self._answered(number, Rest(sequence=number, rest=resting))

    async def attend(self, attentive: bool) -> None:
        """Have every result reported, or only what matters. Raises ProberGoneError."""
        number = next(self._numbers)
        await self._answered(number, Attend(sequence=number, attentive=attentive))

    async def _answered(self, number: int, message: Struct) -> None:
        if self._closed:
            raise ProberGoneError("its prober is gone")
        answer: asyncio.Future[None] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            self.send(message)
            await answer
        finally:
            del self._waiting[number]

    def _readable(self) -> None:
        for _ in range(BURST):
            try:
                message = receive_inline(self._sock, MESSAGE_LIMIT)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                message = None
            if message is None or not self._take(message):
                self.close()
                self._ended(self)
                return
            if self._closed:
                return
        self._loop.remove_reader(self._sock.fileno())
        self._pause = self._loop.call_later(PAUSE_SECONDS, self._listen_again)

    def _listen_again(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._readable)

    def _take(self, data: bytes) -> bool:
        """Take in a message; False at the end of what can be believed."""
        try:
            message = decode_message(data)
        except ValidationError:
            # A prober of another version says something new.
            return True
        except MsgspecError:
            return False
        if isinstance(message, Unable):
            self._failure = message.error[:1024]
            return False
        if not sound(message) or message.id != self.container:
            return False
        self._report = message
        answer = self._waiting.get(message.sequence)
        if answer is not None and not answer.done():
            answer.set_result(None)
        if not message.sequence:
            self._told(self)
        if not self._greeted.done():
            self._greeted.set_result(message)
        return True

    def close(self) -> None:
        """Close the connection; the prober goes on."""
        if self._closed:
            return
        self._closed = True
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        error = ProberGoneError(self._failure or "its prober is gone")
        waiting: list[asyncio.Future[Any]] = [self._greeted, *self._waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                # Nobody may be waiting for it.
                future.exception()
