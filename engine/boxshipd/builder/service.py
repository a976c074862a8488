"""Builds: from a request to what becomes of its result, as one job that ends with its client."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from boxship.types.build_cache import BuildPruneResponse
from boxship.types.build_request import BuildRequest

from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.feed import Feed
from boxshipd.builder.plan import Plan
from boxshipd.builder.session import Session
from boxshipd.errors import InternalError, Unavailable
from boxshipd.images.service import Images, Publish
from boxshipd.scheduler.jobs import Job, Scheduler

if TYPE_CHECKING:
    from boxship.types.build import BuildProgress

    from boxshipd.builder.run import Outcome, Parts

Told: TypeAlias = "BuildProgress | Plan | Outcome"
"""What a build tells: progress at any time, its plan once, and in the end what came of it."""


class Builder:
    """Runs builds. To be used on the event loop.

    Args:
        images: where results go.
        scheduler: runs builds as jobs.
        cache: what is kept of builds.
        publish: where events go.
        load: gives the rest of what builds need. It is called with the first of them: front end, solver and exporters are a
            fifth of the daemon's code, and a daemon that never builds needn't have them in memory.
    """

    def __init__(
        self, *, images: Images, scheduler: Scheduler, cache: BuildCache, publish: Publish, load: Callable[[], Parts]
    ) -> None:
        self.cache = cache
        self._images = images
        self._scheduler = scheduler
        self._publish = publish
        self._load = load
        self._loading = asyncio.Lock()
        self._parts: Parts | None = None
        self._under_way: dict[str, set[asyncio.Task[None]]] = {}
        self._numbers = itertools.count(1)

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
        parts = await self._ready()
        from boxshipd.builder.request import check
        from boxshipd.builder.run import Run

        feed: Feed[Plan | Outcome] = Feed()
        run = Run(parts, check(request), session, accounts, feed)

        async def job(_: Job) -> None:
            try:
                feed.tell(await run.build())
            except OSError as error:
                # A full disk, above all: the client is to know what it was.
                place = f" {error.filename}" if error.filename else ""
                raise InternalError(f"build: {(error.strerror or str(error)).lower()}{place}") from error
            finally:
                # What steps have made that came to nothing.
                await asyncio.shield(self._images.collect())

        name = ", ".join(request.tags) or request.build_id or "image"
        task = self._scheduler.spawn("build", f"{name} #{next(self._numbers)}", job)
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
        answer = await self.cache.prune(options)
        self._publish("builder", "prune", "", {"reclaimed": str(answer.space_reclaimed)})
        return answer

    async def _ready(self) -> Parts:
        async with self._loading:
            if self._parts is None:
                # On a thread: importing takes as long as starting a dozen containers.
                await asyncio.to_thread(importlib.import_module, "boxshipd.builder.opening")
                self._parts = self._load()
            return self._parts

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
