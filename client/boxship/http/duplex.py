"""Streams in both directions at once, for one thread: writing never waits, so that reading never stops."""

from __future__ import annotations

from collections import deque

from boxship.http.stream import Stream


class Duplex:
    """A container's streams in both directions, whatever carries them; a context manager that closes it.

    Args:
        stream: the byte stream, owned from here on.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._outgoing = bytearray()
        self._arrived: deque[bytes] = deque()
        self.ended = False

    def __enter__(self) -> Duplex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._stream.fileno()

    @property
    def pending(self) -> bool:
        """Whether ``read_now`` has something although the descriptor shows nothing."""
        return bool(self._arrived) or self.ended or self._stream.buffered

    @property
    def unsent(self) -> int:
        """Bytes that wait for the descriptor to become writable."""
        return len(self._outgoing)

    def write(self, data: bytes) -> None:
        """Queue ``data`` and send what can be sent without waiting.

        Raises:
            ProtocolError: the connection is broken.
        """
        raise NotImplementedError

    def finish_writing(self) -> None:
        """Say that no more input comes.

        Raises:
            ProtocolError: the connection is broken.
        """
        raise NotImplementedError

    def flush(self) -> None:
        """Send what can be sent without waiting.

        Raises:
            ProtocolError: the connection is broken.
        """
        while self._outgoing:
            with memoryview(self._outgoing) as view, view[:262144] as piece:
                sent = self._stream.send_now(piece)
            if not sent:
                return
            del self._outgoing[:sent]

    def discard(self) -> None:
        """Forget what waits to be sent."""
        self._outgoing.clear()

    def read_now(self) -> bytes | None:
        """What has arrived: None for nothing yet, empty at the end of the stream.

        Raises:
            ProtocolError: the connection broke, or the peer ended the stream because of an error.
        """
        if not self._arrived and not self.ended:
            data = self._stream.receive_now()
            if data is None:
                return None
            self._received(data)
        if self._arrived:
            return self._arrived.popleft()
        return b"" if self.ended else None

    def read(self) -> bytes:
        """Wait for bytes; empty at the end of the stream.

        Raises:
            ProtocolError: the connection broke, or the peer ended the stream because of an error.
        """
        while not self._arrived and not self.ended:
            self._received(self._stream.receive())
        return self._arrived.popleft() if self._arrived else b""

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()

    def _received(self, data: bytes) -> None:
        if data:
            self._take(data)
        else:
            self.ended = True
            self._end()

    def _queue(self, data: bytes | bytearray) -> None:
        self._outgoing += data

    def _take(self, data: bytes) -> None:
        """Decode received bytes into ``_arrived``."""
        self._arrived.append(data)

    def _end(self) -> None:
        """The peer has closed; raise ProtocolError where that isn't how a stream ends."""


class Hijacked(Duplex):
    """A connection that carries a container's streams as they are after its head, the way Docker's clients attach.

    Args:
        stream: the byte stream, owned from here on.
        received: bytes that came with the head.
    """

    def __init__(self, stream: Stream, received: bytes) -> None:
        super().__init__(stream)
        self._finishing = False
        if received:
            self._take(received)

    def write(self, data: bytes) -> None:
        """Queue ``data`` and send what can be sent without waiting."""
        self._queue(data)
        self.flush()

    def finish_writing(self) -> None:
        """Close the sending direction once everything is sent."""
        self._finishing = True
        self.flush()

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        super().flush()
        if self._finishing and not self.unsent:
            self._finishing = False
            self._stream.finish_sending()
