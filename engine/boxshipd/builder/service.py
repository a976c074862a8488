"""Builds: from a request to what becomes of its result, as one job that ends with its client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Iterator

from boxship.types.build import BuildProgress
from boxship.types.build_cache import BuildPruneResponse
from boxship.types.build_request import BuildRequest

from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.feed import Feed
from boxshipd.builder.plan import Plan
from boxshipd.builder.request import check
from boxshipd.builder.run import Outcome, Parts, Run
from boxshipd.builder.session import Session
from boxshipd.errors import InternalError, Unavailable
from boxshipd.scheduler.jobs import Job

Told = BuildProgress | Plan | Outcome
"""What a build tells: progress at any time, its plan once, and in the end what came of it."""


class Builder:
    """Runs builds. To be used on the event loop.

    Args:
        parts: what of the daemon builds need.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._under_way: dict[str, set[asyncio.Task[None]]] = {}
        self._numbers = itertools.count(1)

    @property
    def cache(self) -> BuildCache:
        """What is kept of builds."""
        return self._parts.cache

    async def build(self, request: BuildRequest, session: Session, accounts: str = "") -> AsyncGenerator[Told, None]:
        """Build, and tell of it. Closed early, it ends the build, of which nothing is left then.

        Args:
            request: what is wanted.
            session: the client's side.
            accounts: its registry accounts, as ``X-Registry-Config`` has them.

        Raises:
            InvalidParameter: the request or the Dockerfile can't be.
            NotImplementedHere: it asks for what there isn't here.
            StepFailed: a command failed.
            DaemonError: something else did.
        """
        checked = check(request)
        feed: Feed[Plan | Outcome] = Feed()
        run = Run(self._parts, checked, session, accounts, feed)

        async def job(_: Job) -> None:
            try:
                feed.tell(await run.build())
            except OSError as error:
                # A full disk, above all: the client is to know what it was.
                place = f" {error.filename}" if error.filename else ""
                raise InternalError(f"build: {(error.strerror or str(error)).lower()}{place}") from error
            finally:
                # What steps have made that came to nothing.
                await asyncio.shield(self._parts.images.collect())

        name = ", ".join(request.tags) or request.build_id or "image"
        task = self._parts.scheduler.spawn("build", f"{name} #{next(self._numbers)}", job)
        with self._cancellable(request.build_id, task):
            async with contextlib.aclosing(feed.follow(task)) as told:
                async for what in told:
                    yield what
            if task.cancelled():
                raise Unavailable("the build was cancelled")
            task.result()

    def cancel(self, build_id: str) -> None:
        """End the builds of an id, if there are any."""
        for task in self._under_way.get(build_id, ()):
            task.cancel()

    async def prune(self, options: PruneOptions) -> BuildPruneResponse:
        """Remove what the cache keeps; see ``BuildCache.prune``."""
        answer = await self._parts.cache.prune(options)
        self._parts.publish("builder", "prune", "", {"reclaimed": str(answer.space_reclaimed)})
        return answer

    @contextlib.contextmanager
    def _cancellable(self, build_id: str, task: asyncio.Task[None]) -> Iterator[None]:
        """Let a build be found by its id inside the block."""
        tasks = self._under_way.setdefault(build_id, set())
        tasks.add(task)
        try:
            yield
        finally:
            tasks.discard(task)
            if not tasks:
                self._under_way.pop(build_id, None)
