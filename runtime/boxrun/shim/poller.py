"""Waiting for descriptors: epoll and one handler for each."""

from __future__ import annotations

from collections.abc import Callable
from select import EPOLL_CLOEXEC, epoll

Handler = Callable[[int, int], None]
"""Called with the descriptor and its ``EPOLL*`` events."""

# One call's worth: the kernel's answer is allocated for as many, and a shim has few descriptors.
_BATCH = 16


class Poller:
    """Descriptors and who handles them. Handlers must bear being called for nothing."""

    __slots__ = ("_epoll", "_handlers")

    def __init__(self) -> None:
        self._epoll = epoll(-1, EPOLL_CLOEXEC)
        self._handlers: dict[int, Handler] = {}

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call ``handler`` when ``fd`` shows ``events``, an error or a hang-up."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``, if it is watched."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> bool:
        """Wait for events, at most ``seconds``, and handle them; True where there were any."""
        ready = self._epoll.poll(-1 if seconds is None else max(seconds, 0), _BATCH)
        for fd, events in ready:
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(fd, events)
        return bool(ready)

    def close(self) -> None:
        """Close the epoll descriptor; what was watched stays open."""
        self._handlers.clear()
        self._epoll.close()
