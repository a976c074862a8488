"""The supervisor's end of a connection to a shim."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence

from msgspec import MsgspecError

from boxrun.errors import ShimError
from boxrun.shim.logs import Position
from boxrun.shim.protocol import Attach, Client, Done, Report, Resize, Start, decode_report
from boxrun.shim.wire import REPORT_LIMIT, close_all, encode, receive, send

REPLY_SECONDS = 10.0
"""How long a shim may take to answer."""


class ShimLink:
    """One connection. Reports are handed on as they arrive; requests are answered in any order."""

    def __init__(
        self, sock: socket.socket, reported: Callable[[ShimLink, Report, list[int]], None], ended: Callable[[ShimLink], None]
    ) -> None:
        """Take the socket over.

        Args:
            sock: a connected seqpacket socket.
            reported: called with each report and the descriptors beside it, which it owns then.
            ended: called once, when the connection is over.
        """
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._reported = reported
        self._ended = ended
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Done]] = {}
        self._closed = False
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._readable)

    def start(self, start: Start, fds: Sequence[int]) -> None:
        """Send the start message, whose outcome is reported."""
        send(self._sock, encode(start), fds)

    async def attach(self, client: Client, fd: int) -> None:
        """Hand a client's socket over.

        Raises:
            ShimError: the shim is gone, refuses, or doesn't answer.
        """
        number = next(self._numbers)
        await self._ask(number, encode(Attach(sequence=number, client=client)), (fd,))

    async def attach_gated(self, client: Client, fd: int, gate: int) -> Position:
        """Hand a client's socket over that gets nothing before a byte comes through the pipe ``gate``; how far the log is.

        Raises:
            ShimError: the shim is gone, refuses, or doesn't answer.
        """
        number = next(self._numbers)
        answer = await self._ask(number, encode(Attach(sequence=number, client=client, gated=True)), (fd, gate))
        return answer.position or Position()

    async def resize(self, height: int, width: int) -> None:
        """Set the terminal's size. Raises ShimError."""
        number = next(self._numbers)
        await self._ask(number, encode(Resize(sequence=number, height=height, width=width)), ())

    async def _ask(self, number: int, message: bytes, fds: Sequence[int]) -> Done:
        if self._closed:
            raise ShimError("the container's shim is gone")
        answer: asyncio.Future[Done] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(REPLY_SECONDS):
                send(self._sock, message, fds)
                done = await answer
        except TimeoutError as cause:
            raise ShimError(f"the container's shim did not answer within {REPLY_SECONDS:.0f} s") from cause
        except OSError as cause:
            raise ShimError(f"the container's shim can't be reached: {cause.strerror}") from cause
        finally:
            del self._waiting[number]
        if done.error:
            raise ShimError(done.error)
        return done

    def poll(self) -> None:
        """Take in what has arrived and not been noticed yet."""
        self._readable()

    def _readable(self) -> None:
        while not self._closed:
            try:
                message = receive(self._sock, REPORT_LIMIT)
            except BlockingIOError:
                return
            except (OSError, ValueError):
                message = None
            if message is None:
                self.close()
                self._ended(self)
                return
            self._take(*message)

    def _take(self, data: bytes, fds: list[int]) -> None:
        try:
            report = decode_report(data)
        except MsgspecError:
            # A shim of another version says something new.
            close_all(fds)
            return
        if isinstance(report, Done):
            close_all(fds)
            answer = self._waiting.get(report.sequence)
            if answer is not None and not answer.done():
                answer.set_result(report)
        else:
            self._reported(self, report, fds)

    def release(self) -> socket.socket:
        """Let go of the connection without closing it: it is the caller's, and nothing is under way on it."""
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        return self._sock

    def close(self) -> None:
        """Close the connection; whoever waits for an answer is told that the shim is gone."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ShimError("the container's shim is gone"))
