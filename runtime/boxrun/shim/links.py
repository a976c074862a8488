"""A shim's connections to supervisors: the one that started it, and those that come later through its socket."""

from __future__ import annotations

import os
from _socket import SHUT_RDWR, socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from select import EPOLLIN, EPOLLOUT

from msgspec import MsgspecError, Struct

from boxrun.shim.logs.writer import Position
from boxrun.shim.poller import Poller
from boxrun.shim.protocol import Attach, Done, Request, Resize, decode_request
from boxrun.shim.wire import close_all, encode, receive, send

QUEUE_LIMIT = 1024
"""Reports that may wait for a supervisor that doesn't read; past that its connection is closed, and it may connect again."""


class Link:
    """One connection, non-blocking."""

    __slots__ = ("queue", "sock")

    def __init__(self, sock: socket) -> None:
        self.sock = sock
        self.queue: list[tuple[bytes, tuple[int, ...]]] = []


class Links:
    """All connections. Reports go to every one of them, requests may come from any."""

    __slots__ = ("_handle", "_hello", "_links", "_listener", "_poller")

    def __init__(
        self,
        poller: Poller,
        listener: socket,
        hello: Callable[[], list[tuple[Struct, Sequence[int]]]],
        handle: Callable[[Request, list[int]], str | Position],
    ) -> None:
        """Accept at ``listener``.

        Args:
            hello: what a new connection is told first, each message with the descriptors to send along.
            handle: does what a request asks, owns its descriptors, and returns what went wrong, or how far the log was.
        """
        self._poller = poller
        self._listener = listener
        self._hello = hello
        self._handle = handle
        self._links: dict[int, Link] = {}
        listener.setblocking(False)
        poller.watch(listener.fileno(), EPOLLIN, self._accept)

    @property
    def count(self) -> int:
        """How many supervisors are connected."""
        return len(self._links)

    @property
    def flushed(self) -> bool:
        """True when nothing waits for anybody."""
        return not any(link.queue for link in self._links.values())

    @property
    def listener(self) -> int:
        """The listening socket."""
        return self._listener.fileno()

    @property
    def fds(self) -> list[int]:
        """The connections."""
        return list(self._links)

    def resume(self, sock: socket) -> Link:
        """Take over a connection that has been greeted."""
        sock.setblocking(False)
        link = self._links[sock.fileno()] = Link(sock)
        self._poller.watch(sock.fileno(), EPOLLIN, self._ready)
        return link

    def add(self, sock: socket) -> None:
        """Take over a new connection and greet it."""
        link = self.resume(sock)
        for message, fds in self._hello():
            self._queue(link, encode(message), fds)

    def report(self, message: Struct, fds: Sequence[int] = ()) -> None:
        """Tell every supervisor."""
        encoded = encode(message)
        for link in list(self._links.values()):
            self._queue(link, encoded, fds)

    def _accept(self, _fd: int, _events: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        self.add(socket(fileno=fd))

    def _ready(self, fd: int, events: int) -> None:
        link = self._links[fd]
        if events & EPOLLOUT:
            self._flush(link)
            if fd not in self._links:
                return
        if not events & ~EPOLLOUT:
            return
        try:
            message = receive(link.sock)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            message = None
        if message is None:
            self._drop(link)
            return
        self._serve(link, *message)

    def _serve(self, link: Link, data: bytes, fds: list[int]) -> None:
        try:
            request = decode_request(data)
        except MsgspecError:
            close_all(fds)
            self._drop(link)
            return
        outcome = self._handle(request, fds)
        if isinstance(request, Attach | Resize):
            position, error = (outcome, "") if isinstance(outcome, Position) else (None, outcome)
            self._queue(link, encode(Done(sequence=request.sequence, error=error, position=position)), ())

    def _queue(self, link: Link, message: bytes, fds: Sequence[int]) -> None:
        link.queue.append((message, tuple(os.dup(fd) for fd in fds)))
        if len(link.queue) > QUEUE_LIMIT:
            self._drop(link)
        elif len(link.queue) == 1:
            self._flush(link)

    def _flush(self, link: Link) -> None:
        fd = link.sock.fileno()
        while link.queue:
            message, fds = link.queue[0]
            try:
                send(link.sock, message, fds)
            except BlockingIOError:
                self._poller.change(fd, EPOLLIN | EPOLLOUT)
                return
            except OSError:
                self._drop(link)
                return
            close_all(fds)
            del link.queue[0]
        self._poller.change(fd, EPOLLIN)

    def _drop(self, link: Link) -> None:
        fd = link.sock.fileno()
        if self._links.pop(fd, None) is None:
            return
        self._poller.forget(fd)
        for _, fds in link.queue:
            close_all(fds)
        link.queue.clear()
        # The keeper has a duplicate of the first connection.
        with suppress(OSError):
            link.sock.shutdown(SHUT_RDWR)
        link.sock.close()

    def take(self, sock: socket) -> bool:
        """Take a connection out, for its owner to go on with; whether it was still there, with nothing waiting on it."""
        link = self._links.get(sock.fileno())
        if link is None or link.queue:
            return False
        self._poller.forget(sock.fileno())
        del self._links[sock.fileno()]
        return True

    def close(self) -> None:
        """Close the listening socket and every connection."""
        self._poller.forget(self._listener.fileno())
        self._listener.close()
        for link in list(self._links.values()):
            self._drop(link)
