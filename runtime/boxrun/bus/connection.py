"""A connection: what client and server do alike with frames, file descriptors, keepalive and loss."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import deque
from typing import Any, Final

import msgspec
from msgspec.msgpack import Encoder

from boxrun.bus import frames
from boxrun.bus.context import close_fds
from boxrun.bus.frames import HEADER, HEADER_SIZE, FrameReader, Hello
from boxrun.bus.status import BusError, Code, ProtocolError
from boxrun.bus.transport import Transport

log = logging.getLogger("boxrun.bus")

_encoder: Final = Encoder()
encode = _encoder.encode
_encode_into = _encoder.encode_into
_pack_header_into = HEADER.pack_into


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one side of a connection accepts.

    Attributes:
        max_frame: the largest frame payload, in bytes; a peer that sends a larger one is disconnected.
        window: bytes buffered for a stream whose reader lags; one message above half of it may exceed it.
        max_calls: calls that a client may have open on one connection.
        max_connections: connections to one server.
        handshake: seconds a peer has to say its first frame.
        keepalive: seconds of silence after which the peer is asked for a sign of life.
        keepalive_timeout: seconds it then has before it counts as dead.

    """

    max_frame: int = 16 * 1024 * 1024
    window: int = 1024 * 1024
    max_calls: int = 8192
    max_connections: int = 1024
    handshake: float = 10.0
    keepalive: float = 30.0
    keepalive_timeout: float = 20.0


DEFAULT_LIMITS: Final = Limits()


class Connection(ABC):
    """One end of a connection, above its transport."""

    def __init__(self, transport: Transport, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.reader = FrameReader(limits.max_frame)
        self.limits = limits
        self.loop = loop
        self.transport = transport
        self.peer: Hello | None = None
        self.largest = 0
        self.send_window = 0
        self._fds: deque[int] = deque()
        self._heard = False
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def _handle(self, kind: int, flags: int, call: int, payload: memoryview, fds: tuple[int, ...]) -> None:
        """Take a frame. The file descriptors are the callee's from now on. Raises ProtocolError."""

    @abstractmethod
    def _ended(self, error: BusError) -> None:
        """The transport is closed: fail what is open."""

    @abstractmethod
    def _introduced(self) -> None:
        """The peer has said hello."""

    def start(self) -> None:
        """Say hello, and begin to read."""
        self.write(frames.HELLO, 0, 0, frames.encode_hello(Hello(self.limits.window, self.limits.max_frame)))
        self._timer = self.loop.call_later(self.limits.handshake, self._handshake_expired)
        self.transport.start(self)

    def write(self, kind: int, flags: int, call: int, payload: bytes = b"") -> None:
        """Send a frame."""
        transport = self.transport
        if not transport.closed:
            transport.out += HEADER.pack(len(payload), kind, flags, 0, call) + payload
            transport.appended()

    def write_message(self, kind: int, flags: int, call: int, prefix: bytes, message: Any) -> int:
        """Encode ``prefix`` and ``message`` straight into the output as a frame; returns its payload's length.

        Raises BusError with RESOURCE_EXHAUSTED for a frame above what the peer accepts, TypeError and the like from msgspec
        for a message that can't be encoded; nothing is sent then.
        """
        transport = self.transport
        out = transport.out
        start = len(out)
        body = start + HEADER_SIZE + len(prefix)
        try:
            _encode_into(message, out, body)
        except BaseException:
            del out[start:]
            raise
        length = len(out) - start - HEADER_SIZE
        if length > self.largest:
            del out[start:]
            raise self.too_large(length)
        _pack_header_into(out, start, length, kind, flags, 0, call)
        if prefix:
            out[start + HEADER_SIZE : body] = prefix
        transport.appended()
        return length

    def write_with_fds(self, kind: int, flags: int, call: int, payload: bytes, fds: tuple[int, ...]) -> None:
        """Send a frame with file descriptors, which are the transport's from now on, also if this raises.

        Raises BusError with RESOURCE_EXHAUSTED for a frame above what the peer accepts.
        """
        if len(payload) > self.largest:
            close_fds(fds)
            raise self.too_large(len(payload))
        self.transport.append_with_fds(frames.encode_frame(kind, flags, call, payload, len(fds)), fds)

    def too_large(self, length: int) -> BusError:
        """The error of a message above what the peer accepts."""
        return BusError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes, where the peer accepts {self.largest}")

    def received(self, count: int, fds: list[int]) -> None:
        """The transport put ``count`` bytes into the reader's room."""
        self._heard = True
        if fds:
            self._fds.extend(fds)
        transport = self.transport
        transport.cork()
        try:
            self.reader.advance(count, self._frame)
            if self._fds and (not self.reader.partial or len(self._fds) > frames.MAX_FDS):
                raise ProtocolError("file descriptors that belong to no frame")
        except ProtocolError as error:
            log.warning("bus: disconnecting process %d (uid %d): %s", transport.peer.pid, transport.peer.uid, error)
            transport.abort(f"protocol error: {error}")
        else:
            transport.uncork()

    def lost(self, reason: str) -> None:
        """The transport is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        close_fds(self._fds)
        self._fds.clear()
        # Its tasks and callbacks may refer to each other until the garbage collector comes, which takes long.
        self.loop.call_soon(self.reader.release)
        self._ended(BusError(Code.UNAVAILABLE, reason))

    def _frame(self, kind: int, flags: int, fd_count: int, call: int, payload: memoryview) -> None:
        fds: tuple[int, ...] = ()
        if self.transport.closed:
            return
        if fd_count:
            if fd_count > len(self._fds):
                raise ProtocolError(f"frame with {fd_count} file descriptors, {len(self._fds)} have arrived")
            fds = tuple([self._fds.popleft() for _ in range(fd_count)])
        if self.peer is not None:
            if kind == frames.PING:
                self.write(frames.PONG, 0, 0)
                close_fds(fds)
            else:
                self._handle(kind, flags, call, payload, fds)
            return
        close_fds(fds)
        if kind != frames.HELLO:
            raise ProtocolError("the first frame isn't a hello")
        self.peer = frames.decode_hello(payload)
        self.largest = min(self.peer.max_payload, 0xFFFFFFFF)
        self.send_window = self.peer.window
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.limits.keepalive, self._check_life)
        self._introduced()

    def _handshake_expired(self) -> None:
        self.transport.abort(f"the peer said no hello within {self.limits.handshake:g} s")

    def _check_life(self) -> None:
        if not self._heard and self._pinged:
            # If it was this process that slept, the answer is waiting in the socket.
            self.transport.receive_now()
        if self.transport.closed:
            return
        if self._heard:
            self._heard = self._pinged = False
            delay = self.limits.keepalive
        elif not self._pinged:
            self._pinged = True
            self.write(frames.PING, 0, 0)
            delay = self.limits.keepalive_timeout
        else:
            self.transport.abort(
                f"the peer gave no sign of life for {self.limits.keepalive + self.limits.keepalive_timeout:g} s"
            )
            return
        self._timer = self.loop.call_later(delay, self._check_life)
