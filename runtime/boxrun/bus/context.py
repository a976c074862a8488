"""What a handler knows of the call it serves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from boxrun.bus.frames import MAX_FDS
from boxrun.bus.status import BusError, Code

_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})


class Peer(msgspec.Struct, frozen=True):
    """The process at the other end when it connected, as the kernel vouches for it. Source: SO_PEERCRED in unix(7)."""

    pid: int
    uid: int
    gid: int


def close_fds(fds: Iterable[int]) -> None:
    """Close file descriptors that are ours to close."""
    for fd in fds:
        os.close(fd)


def duplicated(fds: Sequence[int]) -> tuple[int, ...]:
    """Duplicates of the caller's file descriptors, which it may close before they are sent."""
    if len(fds) > MAX_FDS:
        raise BusError(Code.RESOURCE_EXHAUSTED, f"at most {MAX_FDS} file descriptors can travel with a message")
    duplicates: list[int] = []
    try:
        for fd in fds:
            duplicates.append(os.dup(fd))  # noqa: PERF401 - what was duplicated before an error must be closed
    except OSError:
        close_fds(duplicates)
        raise
    return tuple(duplicates)


class Context:
    """A call as its handler sees it.

    Attributes:
        peer: the process at the other end.
        metadata: what the caller sent beside the request (a trace id, the caller's name).
        deadline: when the call has to be over, in the event loop's time; None for never.

    """

    __slots__ = ("_cancelled", "_event", "_fds", "_loop", "_reply_fds", "deadline", "metadata", "peer")

    def __init__(
        self,
        peer: Peer,
        loop: asyncio.AbstractEventLoop,
        metadata: Mapping[str, str] | None = None,
        deadline: float | None = None,
        fds: tuple[int, ...] = (),
    ) -> None:
        self.peer = peer
        self.metadata = metadata or _NO_METADATA
        self.deadline = deadline
        self._loop = loop
        self._fds = fds
        self._reply_fds: tuple[int, ...] = ()
        self._cancelled = False
        self._event: asyncio.Event | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        """The file descriptors received with the request and not yet taken. They are closed when the call ends."""
        return self._fds

    def take_fds(self) -> list[int]:
        """Take the received file descriptors over: the caller closes them from now on."""
        taken, self._fds = self._fds, ()
        return list(taken)

    def send_fds(self, fds: Iterable[int]) -> None:
        """Send file descriptors with the reply; where replies stream, with the next one.

        They are the bus's from now on, which closes them whether the reply gets sent or not.
        Raises BusError with RESOURCE_EXHAUSTED (and closes them) for more than 253 in one reply,
        OSError for one that isn't open.
        """
        fds = tuple(fds)
        for fd in fds:
            os.get_inheritable(fd)  # a bad one would fail the whole connection when it is sent
        if len(self._reply_fds) + len(fds) > MAX_FDS:
            close_fds(fds)
            raise BusError(Code.RESOURCE_EXHAUSTED, f"at most {MAX_FDS} file descriptors can travel with a reply")
        self._reply_fds += fds

    def time_remaining(self) -> float | None:
        """Seconds until the deadline, never below 0; None without one."""
        return None if self.deadline is None else max(self.deadline - self._loop.time(), 0.0)

    @property
    def cancelled(self) -> asyncio.Event:
        """Set once nobody waits for the reply: the caller cancelled, its connection is gone, or the deadline is past.

        The handler's task gets cancelled too; the event is for what the handler leaves to other tasks and threads.
        """
        if self._event is None:
            self._event = asyncio.Event()
            if self._cancelled:
                self._event.set()
        return self._event

    def _cancel(self) -> None:
        self._cancelled = True
        if self._event is not None:
            self._event.set()

    def _take_reply_fds(self) -> tuple[int, ...]:
        taken, self._reply_fds = self._reply_fds, ()
        return taken

    def _close(self) -> None:
        """Close what neither handler nor caller took. Happens once the handler has ended."""
        if self._fds:
            close_fds(self._fds)
            self._fds = ()
        if self._reply_fds:
            close_fds(self._reply_fds)
            self._reply_fds = ()
