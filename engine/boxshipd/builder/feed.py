"""What a build tells, on its way to a client that may be slower than the build."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Generic, TypeVar

from boxship.types.build import BuildLog, BuildProgress
from msgspec.structs import replace

T = TypeVar("T")

_WAITING_LIMIT = 32 << 20
"""Bytes of commands' output that wait for a client; what comes beyond that is dropped, and that is told."""
_OVERHEAD = 512
"""Bytes that a piece of output takes beside itself: a command may print a byte at a time."""
_CLIPPED = b"\n[output clipped: the client reads it too slowly]\n"

_NOTHING = BuildProgress()


class Feed(Generic[T]):
    """Progress and other things, in order. To be used on the event loop."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[BuildProgress | T, int]] = deque()
        self._size = 0
        self._clipped: set[str] = set()
        self._changed = asyncio.Event()

    def tell(self, what: T) -> None:
        """Say something that isn't progress."""
        self._put(what, 0)

    def progress(self, progress: BuildProgress) -> None:
        """A ``progress.Sink``."""
        size = _taken(progress.logs)
        if size and self._size + size > _WAITING_LIMIT:
            # Of each vertex it is said once that something is missing, at the place where it is.
            logs = [self._clip(log) for log in progress.logs if log.vertex not in self._clipped]
            self._clipped.update(log.vertex for log in logs)
            progress = replace(progress, logs=tuple(logs))
            size = _taken(logs)
        else:
            self._clipped.difference_update(log.vertex for log in progress.logs)
        if progress != _NOTHING:
            self._put(progress, size)

    async def follow(self, work: asyncio.Future[Any]) -> AsyncGenerator[BuildProgress | T, None]:
        """What is told until the work ends. If this is given up, so is the work, which has ended before this does."""
        work.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                self._changed.clear()
                ended = work.done()
                while self._waiting:
                    what, size = self._waiting.popleft()
                    self._size -= size
                    yield what
                if ended:
                    return
                await self._changed.wait()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])

    def _put(self, what: BuildProgress | T, size: int) -> None:
        self._size += size
        self._waiting.append((what, size))
        self._changed.set()

    @staticmethod
    def _clip(log: BuildLog) -> BuildLog:
        return replace(log, data=_CLIPPED)


def _taken(logs: Sequence[BuildLog]) -> int:
    """Bytes that logs take while they wait."""
    return sum(len(log.data) + _OVERHEAD for log in logs)
