"""The shim's end of a log that is sent away: frames go into a cache, which ``docker logs`` reads, and to the sender.

The sender (``boxrun.shim.logs.sender``) is a process of its own, behind a socket: where that is full, blocking mode stops the
container, non-blocking mode drops and counts. A sender that dies is replaced, and what it had not delivered is counted.
The cache is a convenience: where its disk refuses, it has a gap.
"""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, socket
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT
from time import monotonic, time_ns

from msgspec import structs

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.shim.logs import sender
from boxrun.shim.logs.backlog import Backlog
from boxrun.shim.logs.frames import frame, messages
from boxrun.shim.logs.local import LocalLog
from boxrun.shim.logs.writer import LineLog, Position, Stream
from boxrun.shim.poller import Poller

OPEN_SECONDS = 30.0
"""How long a sender may take to get in touch with its receiver."""

CLOSE_SECONDS = 6.0
"""How long a sender gets for what is left at the end; the container's end is told only then."""

STALL_SECONDS = 2.5
"""How long of that it may get nowhere."""

RESTART_SECONDS = 1.0
"""The least time between two senders."""

ASYNCHRONOUS_BYTES = 16 << 20
"""What waits at most where the container never does: the shim is in no memory cgroup, and its host's memory isn't endless."""


class RemoteLog(LineLog):
    """The drivers ``journald``, ``syslog``, ``fluentd`` and ``gelf``.

    Args:
        log: driver and options; ``path``, where there is one, and the rotation are the cache's.
        channel: the predecessor's channel, -1 to start a sender.

    Raises:
        OSError: the cache can't be opened, or no process can be had.
        LogDriverError: the sender reports that the receiver can't be reached.
    """

    def __init__(self, log: Log, channel: int = -1) -> None:
        super().__init__()
        self._log = log
        self._backlog = Backlog(*_bounds(log))
        self._torn = False
        """Whether the first frame of the backlog is begun: its rest means nothing to another sender."""
        self._in_flight = 0
        self._reports = b""
        self._started_at = 0.0
        self._poller: Poller | None = None
        self._changed: Callable[[], None] = _nothing
        self._sock: socket | None = socket(fileno=channel) if channel >= 0 else self._first()
        self._cache = LocalLog(structs.replace(log, blocking=False)) if log.path else None

    def _first(self) -> socket:
        """Start a sender and wait for what it says of its receiver."""
        sock = sender.start(self._log, eager=True)
        answer = b""
        try:
            sock.settimeout(OPEN_SECONDS)
            while not answer.endswith(b"\n") and (data := sock.recv(4096)):
                answer += data
        except OSError as error:
            sock.close()
            raise LogDriverError(f"{self._log.driver}: no answer within {OPEN_SECONDS:.0f} s") from error
        if answer != sender.OK:
            sock.close()
            raise LogDriverError(answer.decode("utf-8", "replace").strip() or f"{self._log.driver}: the sending process died")
        # With a timeout, even a call that must not wait would.
        sock.settimeout(None)
        return sock

    @property
    def channel(self) -> int:
        """The socket to the sender, which a successor goes on with."""
        return -1 if self._sock is None else self._sock.fileno()

    @property
    def stalled(self) -> bool:
        """True while the sender takes no more and the mode is blocking."""
        return self._log.blocking and not _is_asynchronous(self._log) and bool(self._backlog)

    @property
    def waiting(self) -> bool:
        """True while there is something to send, or no sender, or a cache whose disk refuses."""
        return bool(self._backlog) or self._sock is None or (self._cache is not None and self._cache.waiting)

    @property
    def pending(self) -> bool:
        """True while something is not delivered yet, or the cache is busy."""
        busy = self._cache is not None and self._cache.pending
        return busy or bool(self._backlog) or self._in_flight > 0 or self._begun_is_large

    def serve(self, poller: Poller, changed: Callable[[], None]) -> None:
        """Hear the sender, and notice when its socket takes more."""
        self._poller, self._changed = poller, changed
        if self._sock is not None:
            poller.watch(self._sock.fileno(), EPOLLIN, self._ready)

    def position(self) -> Position:
        """How far the cache is written."""
        position = self._cache.position() if self._cache is not None else Position()
        return structs.replace(position, begun=self._begun())

    def suspend(self) -> dict[Stream, bytes]:
        """Close the cache; the channel stays."""
        if self._cache is not None:
            self._cache.suspend()
        return self._release_begun()

    def _take(self, stream: Stream, data: bytes, *, final: bool = False) -> None:
        framed = frame(stream, data, time_ns(), final=final)
        if self._cache is not None:
            self._cache.put(framed)
        self._send(framed, messages(framed))

    def _send(self, framed: bytes, count: int, *, begun: bool = False) -> None:
        """Give a frame, or the rest of a begun one, to the sender; what it doesn't take now is held."""
        written = 0
        if not self._backlog and self._sock is not None:
            try:
                written = self._sock.send(framed, MSG_DONTWAIT | MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                self._lose()
        if written == len(framed):
            self._in_flight += count
            return
        if written:
            self._torn = True
        if not self._backlog.add(framed[written:], count, begun=begun or written > 0):
            self.dropped += count
        elif self._sock is not None and self._poller is not None:
            self._poller.change(self._sock.fileno(), EPOLLIN | EPOLLOUT)

    def _ready(self, fd: int, events: int) -> None:
        if events & ~EPOLLOUT:
            self._hear()
        if events & EPOLLOUT and self._sock is not None:
            self._flush()
            if not self._backlog and self._poller is not None:
                self._poller.change(fd, EPOLLIN)
        self._changed()

    def _hear(self) -> None:
        """Take in the sender's reports, or its end."""
        if self._sock is None:
            return
        try:
            data = self._sock.recv(4096, MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._count(data)

    def _count(self, data: bytes) -> None:
        self._reports += data
        size = sender.REPORT.size
        whole = len(self._reports) // size * size
        for delivered, dropped in sender.REPORT.iter_unpack(self._reports[:whole]):
            self._in_flight = max(self._in_flight - delivered - dropped, 0)
            self.dropped += dropped
        self._reports = self._reports[whole:]

    def _lose(self) -> None:
        """The sender is gone, and what it had with it."""
        if self._sock is None:
            return
        if self._poller is not None:
            self._poller.forget(self._sock.fileno())
        self._sock.close()
        self._sock = None
        self._reports = b""
        self.dropped += self._in_flight
        self._in_flight = 0

    def _drop_torn(self) -> None:
        """Give up the rest of a frame whose beginning went to a sender that is gone."""
        if not self._torn:
            return
        self._torn = False
        (_, count), *others = self._backlog.take()
        self.dropped += count
        for framed, number in others:
            self._backlog.add(framed, number, begun=True)

    def _flush(self) -> None:
        frames = self._backlog.take()
        torn, self._torn = self._torn, False
        for index, (framed, count) in enumerate(frames):
            # All of them had been given room before.
            self._send(framed, count, begun=True)
            if self._backlog:
                self._torn |= torn and index == 0
                for later, number in frames[index + 1 :]:
                    self._backlog.add(later, number, begun=True)
                return

    def retry(self) -> bool:
        """Have a sender, and try again what is held; True when nothing is left of it."""
        if self._cache is not None:
            self._cache.retry()
        if self._sock is None:
            self._restart()
        if self._sock is not None and self._backlog:
            self._flush()
        return not self._backlog

    def _restart(self) -> None:
        if monotonic() - self._started_at < RESTART_SECONDS:
            return
        self._started_at = monotonic()
        with suppress(OSError):
            self._sock = sender.start(self._log, eager=False)
            self._drop_torn()
            if self._poller is not None:
                self._poller.watch(self._sock.fileno(), EPOLLIN, self._ready)

    def close(self) -> None:
        """Write the last lines, and give the sender a while to deliver everything."""
        self._write_last_lines()
        if self._cache is not None:
            self._cache.close()
        if self._sock is not None:
            if self._poller is not None:
                self._poller.forget(self._sock.fileno())
                self._poller = None
            self._finish(self._sock, monotonic() + CLOSE_SECONDS)
        self.dropped += self._in_flight + self._backlog.messages
        self._in_flight = 0
        self._backlog.take()

    def _finish(self, sock: socket, deadline: float) -> None:
        def patience() -> float:
            return max(min(deadline - monotonic(), STALL_SECONDS), 0.001)

        try:
            # All of them: who runs out of time or of a sender loses what is left.
            self._in_flight += self._backlog.messages
            for framed, _ in self._backlog.take():
                sock.settimeout(patience())
                sock.sendall(framed, MSG_NOSIGNAL)
            sock.shutdown(SHUT_WR)
            sock.settimeout(patience())
            while data := sock.recv(4096):
                self._count(data)
                sock.settimeout(patience())
        except OSError:
            # Out of time, or the sender died: what is in flight is counted as lost.
            pass
        with suppress(OSError):
            os.close(sock.detach())
        self._sock = None


def _nothing() -> None:
    """Nobody is told."""


def _is_asynchronous(log: Log) -> bool:
    return log.messages_limit > 0


def _bounds(log: Log) -> tuple[int | None, int | None]:
    """How much may wait, in bytes and in messages: without bounds only where the container waits instead."""
    if _is_asynchronous(log):
        return (ASYNCHRONOUS_BYTES if log.blocking else log.buffer_size), log.messages_limit
    return (None if log.blocking else log.buffer_size), None
