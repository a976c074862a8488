"""Streams of one build session, many over one websocket, each with its own flow control.

Protocol: ``boxship.types.build_session``. It knows nothing of websockets: frames come in by ``received`` and go out by the
function it is made with.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from boxship.types.build_session import CHUNK, WINDOW, Frame, Method

from boxshipd.errors import DaemonError, InvalidParameter, NotFound, Unavailable

Send = Callable[[bytes], Awaitable[None]]
"""Sends one message; it waits while the other side is slow, and raises ConnectionError once it is gone."""

_GONE = "the build's client went away"


class Streams:
    """The streams of one client. To be used on the event loop.

    Args:
        send: sends a message.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._streams: dict[int, Stream] = {}
        self._numbers = itertools.count(1, 2)
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Frame)
        self._closed = False

    async def open(self, method: Method, name: str) -> Stream:
        """Ask the client for something.

        Raises:
            Unavailable: the client is gone.
        """
        if self._closed:
            raise Unavailable(f"{method} {name}: {_GONE}")
        stream = Stream(self, next(self._numbers), f"{method} {name}")
        self._streams[stream.number] = stream
        await self.send(Frame(stream=stream.number, kind="open", method=method, name=name))
        return stream

    def received(self, message: bytes) -> None:
        """Take a message in.

        Raises:
            InvalidParameter: it isn't a frame, or one that nobody may send.
        """
        try:
            frame = self._decoder.decode(message)
        except msgspec.MsgspecError as error:
            raise InvalidParameter(f"invalid frame in a build session: {error}") from None
        stream = self._streams.get(frame.stream)
        if frame.kind == "open":
            raise InvalidParameter("invalid frame in a build session: only the daemon opens streams")
        # What comes for a stream that has been given up was sent before its end was known.
        if stream is not None:
            stream.take(frame)

    def close(self) -> None:
        """The client is gone: whoever waits for it is told."""
        self._closed = True
        for stream in [*self._streams.values()]:
            stream.fail(Unavailable(f"{stream.subject}: {_GONE}"))

    async def send(self, frame: Frame) -> None:
        """Send a frame.

        Raises:
            Unavailable: the client is gone.
        """
        try:
            await self._send(self._encoder.encode(frame))
        except ConnectionError as error:
            raise Unavailable(_GONE) from error

    def forget(self, number: int) -> None:
        """A stream has ended."""
        self._streams.pop(number, None)


class Stream:
    """One stream; made by ``Streams.open``. ``close`` it in the end, however that comes.

    Attributes:
        number: the stream's.
        subject: what was asked for, for messages.
    """

    def __init__(self, streams: Streams, number: int, subject: str) -> None:
        self.number = number
        self.subject = subject
        self._streams = streams
        self._pieces: deque[bytes] = deque()
        self._pending = 0
        self._allowed = WINDOW
        self._ended = False
        self._error: DaemonError | None = None
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        """The next bytes; none at the end.

        Raises:
            NotFound: the client doesn't have what was asked for.
            InvalidParameter: it can't give it.
            Unavailable: it is gone.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            await self._change()
        piece = self._pieces.popleft()
        self._pending -= len(piece)
        if not self._ended:
            await self._streams.send(Frame(stream=self.number, kind="ack", count=len(piece)))
        return piece

    async def write(self, data: bytes) -> None:
        """Send bytes, as fast as the client takes them.

        Raises:
            DaemonError: as for ``read``.
        """
        rest = memoryview(data)
        while rest:
            while not self._allowed and self._error is None:
                await self._change()
            if self._error is not None:
                raise self._error
            count = min(len(rest), CHUNK, self._allowed)
            self._allowed -= count
            await self._streams.send(Frame(stream=self.number, kind="data", data=bytes(rest[:count])))
            rest = rest[count:]

    async def end(self) -> None:
        """Nothing more is sent."""
        await self._streams.send(Frame(stream=self.number, kind="end"))

    async def ended(self) -> None:
        """Wait until the client ends its direction.

        Raises:
            DaemonError: as for ``read``.
        """
        while await self.read():
            pass

    async def close(self) -> None:
        """Have no more to do with it; the client is told if it isn't through."""
        self._streams.forget(self.number)
        if not self._ended and self._error is None:
            self._error = Unavailable(f"{self.subject}: given up")
            try:
                await self._streams.send(Frame(stream=self.number, kind="error", message="not needed any more"))
            except Unavailable:
                # It knows then.
                return

    async def pieces(self) -> AsyncIterator[bytes]:
        """Everything that comes; the stream is closed afterwards."""
        try:
            while piece := await self.read():
                yield piece
        finally:
            await self.close()

    def take(self, frame: Frame) -> None:
        """What the client has sent.

        Raises:
            InvalidParameter: it sends more than it may.
        """
        match frame.kind:
            case "data":
                self._pending += len(frame.data)
                if self._pending > WINDOW or self._ended:
                    raise InvalidParameter(f"{self.subject}: the client sends more than was allowed")
                if frame.data:
                    self._pieces.append(frame.data)
            case "ack":
                self._allowed += frame.count
                if frame.count < 0 or self._allowed > WINDOW:
                    raise InvalidParameter(f"{self.subject}: the client acknowledges what wasn't sent")
            case "end":
                self._ended = True
            case "error":
                message = frame.message or ("not found" if frame.missing else "failed")
                self.fail((NotFound if frame.missing else InvalidParameter)(f"{self.subject}: {message}"))
            case "open":
                raise AssertionError("streams are opened by the daemon")
        self._wake()

    def fail(self, error: DaemonError) -> None:
        """End both directions with an error; what hasn't been read is dropped."""
        if self._error is None:
            self._error = error
        self._pieces.clear()
        self._streams.forget(self.number)
        self._wake()

    async def _change(self) -> None:
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
