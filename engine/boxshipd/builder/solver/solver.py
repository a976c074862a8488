"""The solver, which all builds share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from boxshipd.builder.cache.service import BuildCache
from boxshipd.builder.executor import Executor, Surroundings, Work
from boxshipd.builder.graph import Graph, Input, Operation, Vertex
from boxshipd.builder.progress import Reporter, Sink
from boxshipd.builder.results import Result, Snapshot, Tree
from boxshipd.builder.solver.build import Build, result
from boxshipd.builder.solver.flights import Flights, Follower
from boxshipd.builder.solver.outcome import Outcome, close_all, release_all
from boxshipd.errors import InternalError
from boxshipd.images.workers import Workers
from boxshipd.scheduler.jobs import Job, Scheduler

_ATTEMPTS = 3


class Solver:
    """Runs graphs. To be used on the event loop.

    Args:
        executors: what carries out which operation.
        cache: what is known from before.
        scheduler: runs steps as jobs of kind ``build-step``. A step's inputs are there before its job is queued, and no job
            of the kind waits for another, so that the kind's limit can't stop them all.
        workers: threads, for letting go of files.
    """

    def __init__(
        self, executors: Mapping[type[Operation], Executor[Any]], cache: BuildCache, scheduler: Scheduler, workers: Workers
    ) -> None:
        self._executors = executors
        self._cache = cache
        self._scheduler = scheduler
        self._workers = workers
        self._flights = Flights(workers)
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def solve(
        self, graph: Graph, wanted: Sequence[Input], around: Surroundings, sink: Sink
    ) -> AsyncIterator[list[Result]]:
        """Solve what is wanted; inside the block the results stay, and those of all other vertices too.

        Args:
            graph: the operations.
            wanted: what is asked for, by vertex and output.
            around: what commands run under.
            sink: told of every vertex that is needed.

        Raises:
            InternalError: the graph hasn't what is wanted.
            Exception: what the first step to fail raised, with a note that names the step; ``sink`` was told as well.
        """
        build = Build(graph, wanted, around, sink, self._solve)
        try:
            yield await build.run()
        finally:
            outcomes, build.outcomes = build.outcomes, {}
            try:
                await release_all(outcomes.values(), self._workers)
            finally:
                self._cache.build_ended()

    async def _solve(self, build: Build, digest: str, inputs: Sequence[Outcome]) -> tuple[Outcome, bool]:
        """One vertex, whose inputs are there; and whether it came from the cache."""
        vertex = build.vertices[digest]
        executor = self._executor(vertex)
        given = [result(outcome, one) for outcome, one in zip(inputs, vertex.inputs, strict=True)]
        work = Work(vertex, given, build.around, build.reports[digest])
        key = await executor.key(vertex.op, work)
        if key and not vertex.ignore_cache and (use := self._cache.find(key)) is not None:
            return Outcome(use.snapshots, use), True

        async def run(tell: Sink) -> Outcome:
            shared = Work(vertex, given, build.around, Reporter(vertex, tell))
            return await self._run(executor, shared, key, inputs)

        follower = Follower(digest, build.sink)
        return await self._flights.outcome(key, follower, run, alone=vertex.ignore_cache), False

    async def _run(self, executor: Executor[Any], work: Work, key: str, inputs: Sequence[Outcome]) -> Outcome:
        """Run a vertex as a job. It uses its inputs itself, for the build that has begun it may go before it ends."""
        made: list[Outcome] = []

        async def carry_out(_: Job) -> Outcome:
            for _attempt in range(_ATTEMPTS):
                results = await executor.run(work.vertex.op, work)
                outcome = self._keep(results, key, work.vertex, inputs)
                if outcome is not None:
                    made.append(outcome)
                    return outcome
                # An image was removed just now, with a layer that is the same: it has to be made once more.
                await close_all([each for each in results if isinstance(each, Tree)], self._workers)
            raise InternalError(f"{work.vertex.name}: what it made was removed {_ATTEMPTS} times")

        users = [outcome.share() for outcome in inputs]
        try:
            name = f"{work.vertex.name or work.vertex.digest} #{next(self._numbers)}"
            return await self._scheduler.run("build-step", name, carry_out, cancellable=True)
        except BaseException:
            # Cancelled when it was done already.
            await release_all(made, self._workers)
            raise
        finally:
            await release_all(users, self._workers)

    def _keep(self, results: Sequence[Result], key: str, vertex: Vertex, inputs: Sequence[Outcome]) -> Outcome | None:
        """Keep what was made, on record where it can be; None where some of it has gone already."""
        snapshots = [made for made in results if isinstance(made, Snapshot)]
        if key and len(snapshots) == len(results):
            parents = [outcome.record for outcome in inputs if outcome.record]
            use = self._cache.record(key, snapshots, description=vertex.name, parents=parents)
        else:
            use = self._cache.hold(snapshots)
        return None if use is None else Outcome(results, use)

    def _executor(self, vertex: Vertex) -> Executor[Any]:
        executor = self._executors.get(type(vertex.op))
        if executor is None:
            raise InternalError(f"{vertex.name}: nothing carries out {type(vertex.op).__name__} operations")
        return executor
