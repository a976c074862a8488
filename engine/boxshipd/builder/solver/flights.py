"""Vertices under way. Equal work is done once, whoever asked for it, and goes on as long as one of them waits.

Those who come later are told what has been printed before they came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from boxship.types.build import BuildProgress
from msgspec.structs import replace

from boxshipd.builder.progress import Sink
from boxshipd.builder.solver.outcome import Outcome, release_all
from boxshipd.errors import Unavailable
from boxshipd.images.workers import Workers

_REMEMBERED = 256 << 10
"""Bytes of output that are kept for those who come later."""


class Follower:
    """One build that waits for a vertex.

    Args:
        digest: what the vertex is called there.
        sink: takes what is told of it.
    """

    def __init__(self, digest: str, sink: Sink) -> None:
        self._digest = digest
        self._sink = sink

    def tell(self, progress: BuildProgress) -> None:
        """Tell of it under the name that it has there. When it begins and ends is each build's own business."""
        self._sink(
            BuildProgress(
                statuses=tuple(replace(each, vertex=self._digest) for each in progress.statuses),
                logs=tuple(replace(each, vertex=self._digest) for each in progress.logs),
                warnings=tuple(replace(each, vertex=self._digest) for each in progress.warnings),
            )
        )


class Flight:
    """One vertex under way.

    Args:
        workers: threads, on which what nobody wants in the end is closed.
        landed: called when nobody may join any more.

    Attributes:
        abandoned: the build that began it, and whose client it may need, doesn't wait for it any more.
    """

    def __init__(self, workers: Workers, landed: Callable[[Flight], None]) -> None:
        self._workers = workers
        self._landed = landed
        self._owner: Follower | None = None
        self._followers: list[Follower] = []
        self._said: deque[tuple[int, BuildProgress]] = deque()
        self._length = 0
        self._task: asyncio.Task[Outcome]
        self.abandoned = False

    def begin(self, owner: Follower, task: asyncio.Task[Outcome]) -> None:
        """Go on as the work of ``task``, begun by ``owner``."""
        self._owner = owner
        self._task = task
        task.add_done_callback(lambda _: self._landed(self))

    def tell(self, progress: BuildProgress) -> None:
        """Tell everybody who waits."""
        size = 64 + sum(len(log.data) for log in progress.logs)
        self._said.append((size, progress))
        self._length += size
        while self._length > _REMEMBERED:
            self._length -= self._said.popleft()[0]
        for follower in self._followers:
            follower.tell(progress)

    async def outcome(self, follower: Follower) -> Outcome:
        """Wait for it; what it has made, as one more user of it.

        When the last one has gone, the work is cancelled and its end waited for.

        Raises:
            Unavailable: somebody has cancelled the work itself.
        """
        for _, progress in self._said:
            follower.tell(progress)
        self._followers.append(follower)
        try:
            return (await asyncio.shield(self._task)).share()
        except asyncio.CancelledError:
            here = asyncio.current_task()
            if self._task.cancelled() and here is not None and not here.cancelling():
                raise Unavailable("the build step was cancelled") from None
            raise
        finally:
            self._followers.remove(follower)
            if follower is self._owner and not self._task.done():
                self.abandoned = True
            if not self._followers:
                await self._end()

    async def _end(self) -> None:
        """Nobody waits any more."""
        self._landed(self)
        if not self._task.done():
            self._task.cancel()
        while not self._task.done():
            # However often we are cancelled ourselves: what it uses is let go of after this.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([self._task])
        if not self._task.cancelled() and self._task.exception() is None:
            await release_all([self._task.result()], self._workers)


class Flights:
    """All vertices under way, of all builds.

    Args:
        workers: threads.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._under_way: dict[str, Flight] = {}

    async def outcome(
        self,
        key: str,
        follower: Follower,
        work: Callable[[Sink], Coroutine[Any, Any, Outcome]],
        *,
        alone: bool,
    ) -> Outcome:
        """Begin work, or wait for it where it is under way; what it has made.

        Args:
            key: equal keys, equal work; empty for what nobody else may share.
            follower: who waits.
            work: does it, telling a sink.
            alone: what others have begun doesn't do.
        """
        while True:
            flight = self._under_way.get(key) if key and not alone else None
            if flight is None:
                return await self._begin(key, follower, work).outcome(follower)
            try:
                return await flight.outcome(follower)
            except Exception:
                # Where its own client had gone, that may be all that was wrong with it.
                if not flight.abandoned:
                    raise

    def _begin(self, key: str, owner: Follower, work: Callable[[Sink], Coroutine[Any, Any, Outcome]]) -> Flight:
        def landed(flight: Flight) -> None:
            if self._under_way.get(key) is flight:
                del self._under_way[key]

        flight = Flight(self._workers, landed)
        flight.begin(owner, asyncio.ensure_future(work(flight.tell)))
        if key:
            self._under_way.setdefault(key, flight)
        return flight
