"""A client attached to a container: its socket, its framing, and what waits to be written to it.

A client that reads slowly, or for a while not at all, holds the container back once ``BUFFER_LIMIT`` bytes wait for it, as with
Docker; but one that takes less than ``STALL_BYTES`` in ``STALL_SECONDS`` while the container waits is cut off, and the latter
goes on. It never costs a byte of the log, which is written first.
"""

from __future__ import annotations

from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, socket
from time import monotonic
from typing import Literal

from boxrun.shim import websocket
from boxrun.shim.keys import KeyDetector, parse_keys
from boxrun.shim.protocol import Client as ClientSpec

BUFFER_LIMIT = 1 << 20
"""Bytes that may wait for a client before the container is held back."""

STALL_SECONDS = 30.0
"""How long the container waits for a client that takes next to nothing."""

STALL_BYTES = 65536
"""What a client must take in that time to be waited for."""

LINGER_SECONDS = 5.0
"""How long a finished client may go on sending before its socket is closed: closing earlier could cost it our last bytes."""

READ_SIZE = 65536

Stream = Literal["stdout", "stderr"]
_STREAM_NUMBER = {"stdout": b"\1\0\0\0", "stderr": b"\2\0\0\0"}


class Input:
    """What one read from a client came to."""

    __slots__ = ("data", "detached", "ended", "gone")

    def __init__(self) -> None:
        self.data = b""
        self.detached = False
        self.ended = False
        self.gone = False


class Client:
    """An attached client. Its socket is non-blocking and its own; nothing here waits."""

    __slots__ = (
        "_decoder",
        "_detector",
        "_first",
        "_framed",
        "_full_since",
        "_progress",
        "_queue",
        "_sock",
        "_taken",
        "_waiting",
        "ending",
        "fd",
        "gated",
        "input_open",
        "interest",
        "stderr",
        "stdin",
        "stdout",
    )

    def __init__(self, spec: ClientSpec, fd: int, terminal: bool) -> None:
        """Take over ``fd``, which is closed if this raises.

        Raises:
            OSError: ``fd`` is not a socket.
            ValueError: the detach keys aren't any.
        """
        self._sock = socket(fileno=fd)
        self.fd = fd
        keys = parse_keys(spec.detach_keys) if terminal and spec.stdin else b""
        self._detector = KeyDetector(keys) if keys else None
        self._decoder = websocket.Decoder() if spec.framing.startswith("websocket") else None
        self._framed = spec.framing.endswith("multiplexed")
        self._first = spec.received
        self._queue: list[bytes] = []
        self._waiting = 0
        self._progress = 0.0
        self._full_since: float | None = None
        self._taken = 0
        self.gated = False
        """Nothing is sent before somebody else has sent what came earlier; what comes meanwhile waits."""
        self.stdin = spec.stdin
        self.stdout = spec.stdout
        self.stderr = spec.stderr
        self.input_open = True
        """The client may still send."""
        self.ending = False
        """Nothing more is queued: what waits is flushed, then the client's end is awaited."""
        self.interest = 0
        """What the loop polls for; its own note."""
        self._sock.setblocking(False)

    def wants(self, stream: Stream) -> bool:
        """True where the client is attached to ``stream`` and still there."""
        return not self.ending and (self.stdout if stream == "stdout" else self.stderr)

    @property
    def full(self) -> bool:
        """True while the container has to wait for this client."""
        return self._waiting >= BUFFER_LIMIT

    @property
    def pending(self) -> bool:
        """True while something waits that can be written."""
        return bool(self._waiting) and not self.gated

    @property
    def stalled(self) -> bool:
        """True where the container has waited long enough, and in vain."""
        return self.full and not self.ending and self._taken < STALL_BYTES

    def deadline(self) -> float | None:
        """When the client is given up unless it takes something (monotonic seconds); None while nothing is due from it."""
        if self.ending:
            # The container has ended or doesn't wait for it any more: what is left may take its time.
            return None if self._waiting else self._progress + LINGER_SECONDS
        return None if self._full_since is None else self._full_since + STALL_SECONDS

    def excuse(self, now: float) -> bool:
        """At its deadline: whether a client that lets the container wait has taken enough to be waited for again."""
        if self._full_since is None or self.stalled:
            return False
        self._full_since, self._taken = now, 0
        return True

    def output(self, stream: Stream, data: bytes) -> bool:
        """Send the container's output in the client's framing; False when the client is gone."""
        size = len(data)
        parts = [data]
        if self._framed:
            parts.insert(0, _STREAM_NUMBER[stream] + size.to_bytes(4, "big"))
            size += 8
        if self._decoder is not None:
            parts.insert(0, websocket.frame_head(websocket.BINARY, size))
        return self._send(b"".join(parts) if len(parts) > 1 else data)

    def _send(self, data: bytes) -> bool:
        if not self._waiting and not self.gated:
            try:
                sent = self._sock.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                sent = 0
            except OSError:
                return False
            if sent == len(data):
                return True
            data = data[sent:]
            self._progress = monotonic()
        self._queue.append(data)
        self._waiting += len(data)
        if self._full_since is None and self.full and not self.ending:
            self._full_since, self._taken = monotonic(), 0
        return True

    def flush(self) -> bool:
        """Write what waits, as far as the client takes it; False when it is gone."""
        if self.gated:
            return True
        while self._queue:
            data = self._queue[0]
            try:
                sent = self._sock.send(data, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._progress = monotonic()
            self._waiting -= sent
            self._taken += sent
            if not self.full:
                self._full_since = None
            if sent < len(data):
                self._queue[0] = data[sent:]
                return True
            del self._queue[0]
        return not self.ending or self._half_close()

    def finish(self) -> bool:
        """Take no more output: after what waits come the framing's goodbye and the stream's end. False when it is gone."""
        if self.ending:
            return True
        if self._decoder is not None and not self._send(websocket.close_frame(websocket.NORMAL_CLOSURE)):
            return False
        return self._end()

    def _end(self) -> bool:
        self.ending = True
        return bool(self._waiting) or self._half_close()

    def _half_close(self) -> bool:
        self._progress = monotonic()
        try:
            self._sock.shutdown(SHUT_WR)
        except OSError:
            return False
        return self.input_open

    def first_input(self) -> Input:
        """What the client had sent before its socket was handed over."""
        first, self._first = self._first, b""
        return self._understand(first) if first else Input()

    def read(self) -> Input:
        """Read what the client sent."""
        try:
            data = self._sock.recv(READ_SIZE, MSG_DONTWAIT)
        except BlockingIOError:
            return Input()
        except OSError:
            data, broken = b"", True
        else:
            broken = False
        if data:
            return self._understand(data)
        result = Input()
        result.ended = self.input_open
        result.gone = broken or self.ending or self._decoder is not None or not (self.stdout or self.stderr)
        self.input_open = False
        if self._detector is not None:
            result.data = self._detector.flush()
        return result

    def _understand(self, data: bytes) -> Input:
        result = Input()
        unheard = self.ending or not self.stdin
        payload = self._unframe(data, result) if self._decoder is not None else data
        if unheard:
            return result
        if self._detector is not None:
            payload, result.detached = self._detector.feed(payload)
        result.data = payload
        return result

    def _unframe(self, data: bytes, result: Input) -> bytes:
        """The payload in a websocket client's bytes; pings and closes are answered on the way."""
        payload = []
        decoder = self._decoder
        assert decoder is not None
        try:
            events = decoder.feed(data)
        except websocket.ProtocolError:
            self._goodbye(websocket.close_frame(websocket.PROTOCOL_ERROR), result)
            return b""
        for kind, body in events:
            if kind == "data":
                payload.append(body)
            elif kind == "ping":
                result.gone |= not self.ending and not self._send(websocket.frame(websocket.PONG, body))
            elif kind == "close":
                self._goodbye(websocket.frame(websocket.CLOSE, body), result)
            elif self._framed:
                result.ended = True
        return b"".join(payload)

    def _goodbye(self, reply: bytes, result: Input) -> None:
        """Answer a websocket's end, and end the client's input with it."""
        result.ended = True
        if self.ending:
            result.gone = True
        else:
            result.gone = not self._send(reply) or not self._end()

    def close(self) -> None:
        """Close the socket, whatever waits."""
        self._queue.clear()
        self._waiting = 0
        self._sock.close()
