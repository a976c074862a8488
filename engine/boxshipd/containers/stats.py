"""Resource usage of containers, sampled once a second for as long as somebody follows it.

One collector asks the runtime for all followed containers at once, and all followers of a container share its samples. A
follower that doesn't keep up gets the newest sample, and the one it had before as the previous.
Source: moby daemon/stats.go, stats_collector.go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from boxrun.supervisor.contract import Runtime, UsageReply, UsageRequest
from boxship.types.stats import CPUStats, StatsResponse
from msgspec.structs import replace

from boxshipd.containers.model import Container
from boxshipd.containers.usage import empty_sample, sample
from boxshipd.errors import DaemonError
from boxshipd.runtime.link import RuntimeLink

log = logging.getLogger(__name__)

PERIOD = 1.0
"""Seconds between samples."""
_FRESH = 0.5
"""A container that somebody has begun to follow less than this many seconds ago is left out of the next round."""


class Follower(AsyncIterator[StatsResponse]):
    """One client's samples, each with the processor time of the one before it. ``close`` it in the end."""

    def __init__(self, collector: Collector, container: Container) -> None:
        self.container = container
        self._collector = collector
        self._newest: StatsResponse | None = None
        self._wake = asyncio.Event()
        self._ended = False
        self._before: tuple[CPUStats, str] | None = None

    def offer(self, fresh: StatsResponse) -> None:
        """Have a new sample in place of one not yet taken."""
        self._newest = fresh
        self._wake.set()

    def end(self) -> None:
        """There will be no more."""
        self._ended = True
        self._wake.set()

    async def __anext__(self) -> StatsResponse:
        await self._wake.wait()
        self._wake.clear()
        fresh, self._newest = self._newest, None
        if fresh is None:
            raise StopAsyncIteration
        if self._ended:
            self._wake.set()
        before, self._before = self._before, (fresh.cpu_stats, fresh.read)
        return fresh if before is None else replace(fresh, precpu_stats=before[0], preread=before[1])

    def close(self) -> None:
        """Leave."""
        self._collector.leave(self)


class _Followed:
    """A container with its followers and its newest sample, asked for at ``moment`` of the loop's clock.

    Before there is one, ``moment`` is when it was first followed: the first sample is on its way then.
    """

    __slots__ = ("container", "followers", "moment", "newest")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.followers: set[Follower] = set()
        self.moment = asyncio.get_running_loop().time()
        self.newest: StatsResponse | None = None


class Collector:
    """Samples what is followed."""

    def __init__(self, runtime: RuntimeLink) -> None:
        self._runtime = runtime
        self._followed: dict[str, _Followed] = {}
        self._task: asyncio.Task[None] | None = None
        self._firsts: set[asyncio.Task[None]] = set()

    def follow(self, container: Container) -> Follower:
        """Samples of a container, the first one at once; it may stop and start meanwhile."""
        follower = Follower(self, container)
        followed = self._followed.get(container.id)
        if followed is None:
            followed = self._followed[container.id] = _Followed(container)
        followed.followers.add(follower)
        if followed.newest is not None:
            follower.offer(followed.newest)
        elif len(followed.followers) == 1:
            first = asyncio.create_task(self._sample([followed]))
            self._firsts.add(first)
            first.add_done_callback(self._firsts.discard)
        if self._task is None:
            self._task = asyncio.create_task(self._collect(), name="stats")
        return follower

    def leave(self, follower: Follower) -> None:
        """A follower has gone; nothing is sampled for nobody."""
        followed = self._followed.get(follower.container.id)
        if followed is None:
            return
        followed.followers.discard(follower)
        if not followed.followers:
            del self._followed[follower.container.id]
        if not self._followed and self._task is not None:
            self._task.cancel()
            self._task = None

    async def single(self, container: Container, *, primed: bool) -> StatsResponse:
        """One sample: now, or where ``primed`` the second of two, a second apart.

        Raises:
            Unavailable, InternalError: the runtime can't be asked.
        """
        if not container.state.running or container.state.restarting:
            return empty_sample(container)
        if primed:
            follower = self.follow(container)
            try:
                first = await anext(follower)
                return await anext(follower, first)
            finally:
                follower.close()
        reply = await self._ask([container.id])
        return sample(container, reply, next(iter(reply.containers), None))

    def close(self) -> None:
        """End every follower's stream."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for followed in self._followed.values():
            for follower in followed.followers:
                follower.end()
        self._followed.clear()

    async def _collect(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + PERIOD, loop.time())
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            try:
                await self._sample([followed for followed in self._followed.values() if now - followed.moment > _FRESH])
            except Exception:
                log.exception("reading statistics failed")

    async def _sample(self, wanted: list[_Followed]) -> None:
        """Take a sample of each and hand it out."""
        asked = asyncio.get_running_loop().time()
        running = [one.container.id for one in wanted if one.container.state.running]
        try:
            reply = await self._ask(running) if running else None
        except DaemonError as error:
            log.debug("statistics: %s", error)
            reply = None
        usages = {usage.id: usage for usage in reply.containers} if reply is not None else {}
        for followed in wanted:
            if followed.moment > asked:
                # A later answer has come before this one.
                continue
            container = followed.container
            usage = usages.get(container.id)
            fresh = empty_sample(container) if reply is None or usage is None else sample(container, reply, usage)
            followed.newest, followed.moment = fresh, asked
            for follower in followed.followers:
                if container.removed:
                    follower.end()
                else:
                    follower.offer(fresh)

    async def _ask(self, ids: list[str]) -> UsageReply:
        started = time.monotonic()
        reply = await self._runtime.call(Runtime.usage, UsageRequest(ids=tuple(ids)), "read statistics")
        log.debug("read the statistics of %d containers in %.1f ms", len(ids), (time.monotonic() - started) * 1000)
        return reply
