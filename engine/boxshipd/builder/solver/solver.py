"""The solver, which all builds share."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from boxshipd.builder.cache.imported import Claim, Fetcher
from boxshipd.builder.cache.service import BuildCache, Use
from boxshipd.builder.executor import Executor, Surroundings, Work
from boxshipd.builder.graph import (
    ContextSource,
    Copy,
    Files,
    GitSource,
    Graph,
    HttpSource,
    ImageSource,
    Input,
    Operation,
    Vertex,
)
from boxshipd.builder.progress import Reporter, Sink
from boxshipd.builder.results import Result, Snapshot, Tree
from boxshipd.builder.solver.build import Build, Solution, result
from boxshipd.builder.solver.flights import Flights, Follower
from boxshipd.builder.solver.outcome import Outcome, close_all, release_all
from boxshipd.errors import InternalError
from boxshipd.images.workers import Workers
from boxshipd.scheduler.jobs import Job, Scheduler

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Step:
    """A vertex that is to be run."""

    executor: Executor[Any]
    vertex: Vertex
    key: str
    inputs: Sequence[Outcome]
    around: Surroundings


class Solver:
    """Runs graphs. To be used on the event loop.

    Args:
        executors: what carries out which operation.
        cache: what is known from before.
        scheduler: runs steps as jobs of kind ``build-step``, and those that wait for somebody else, a client or a server, as
            ``build-source``: as many as are slow, no command has to wait for a place. A step's inputs are there before its job
            is queued, and no job of these kinds waits for another, so that the kinds' limits can't stop them all.
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
        self._fetcher = Fetcher(cache.stores, cache.verified, workers)
        self._numbers = itertools.count(1)

    @asynccontextmanager
    async def solve(
        self,
        graph: Graph,
        wanted: Sequence[Input],
        around: Surroundings,
        sink: Sink,
        imported: Sequence[Mapping[str, Claim]] = (),
    ) -> AsyncIterator[Solution]:
        """Solve what is wanted; inside the block the results stay, and those of all other vertices too.

        Args:
            graph: the operations.
            wanted: what is asked for, by vertex and output.
            around: what commands run under.
            sink: told of every vertex that is needed.
            imported: what others say that keys give, to be asked in this order where the cache knows nothing.

        Raises:
            InternalError: the graph hasn't what is wanted.
            Exception: what the first step to fail raised, with a note that names the step; ``sink`` was told as well.
        """
        build = Build(graph, wanted, around, sink, self._solve, imported=imported)
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
        if _looked_into(vertex.op):
            inputs = [await outcome.fetched() for outcome in inputs]
        key = await executor.key(vertex.op, Work(vertex, _given(vertex, inputs), build.around, build.reports[digest]))
        if key:
            build.keys[digest] = key
        if key and not vertex.ignore_cache:
            if (use := self._cache.find(key)) is not None:
                return Outcome(use.snapshots, use), True
            if (claim := build.claim(key)) is not None:
                return Outcome(claim.snapshots, None, partial(self._fetch, claim)), True

        step = _Step(executor, vertex, key, inputs, build.around)
        return (
            await self._flights.outcome(key, Follower(digest, build.sink), partial(self._run, step), alone=vertex.ignore_cache),
            False,
        )

    async def _fetch(self, claim: Claim) -> Use:
        """Have what others have made here."""
        async with self._fetcher.fetched(claim) as snapshots:
            use = self._cache.hold(snapshots)
        if use is None:
            raise InternalError("layers that were fetched are gone")
        return use

    async def _run(self, step: _Step, tell: Sink) -> Outcome:
        """Run a vertex as a job. It uses its inputs itself, for the build that has begun it may go before it ends."""
        vertex = step.vertex
        made: list[Outcome] = []

        async def carry_out(_: Job) -> Outcome:
            work = Work(vertex, _given(vertex, step.inputs), step.around, Reporter(vertex, tell))
            for _attempt in range(_ATTEMPTS):
                results = await step.executor.run(vertex.op, work)
                outcome = self._keep(results, step)
                if outcome is not None:
                    made.append(outcome)
                    return outcome
                # An image was removed just now, with a layer that is the same: it has to be made once more.
                await close_all([each for each in results if isinstance(each, Tree)], self._workers)
            raise InternalError(f"{vertex.name}: what it made was removed {_ATTEMPTS} times")

        users = [outcome.share() for outcome in step.inputs]
        try:
            try:
                for outcome in users:
                    await outcome.fetched()
                name = f"{vertex.name or vertex.digest} #{next(self._numbers)}"
                return await self._scheduler.run(_kind(vertex.op), name, carry_out, cancellable=True)
            finally:
                await release_all(users, self._workers)
        except BaseException:
            # Cancelled when it was done already, perhaps while its inputs were let go of.
            await release_all(made, self._workers)
            raise

    def _keep(self, results: Sequence[Result], step: _Step) -> Outcome | None:
        """Keep what was made, on record where it can be; None where some of it has gone already."""
        snapshots = [made for made in results if isinstance(made, Snapshot)]
        if step.key and len(snapshots) == len(results):
            parents = [outcome.record for outcome in step.inputs if outcome.record]
            use = self._cache.record(step.key, snapshots, description=step.vertex.name, parents=parents)
        else:
            use = self._cache.hold(snapshots)
        return None if use is None else Outcome(results, use)

    def _executor(self, vertex: Vertex) -> Executor[Any]:
        executor = self._executors.get(type(vertex.op))
        if executor is None:
            raise InternalError(f"{vertex.name}: nothing carries out {type(vertex.op).__name__} operations")
        return executor


def _given(vertex: Vertex, inputs: Sequence[Outcome]) -> list[Result]:
    return [result(outcome, one) for outcome, one in zip(inputs, vertex.inputs, strict=True)]


def _kind(op: Operation) -> str:
    """The kind of an operation's job."""
    return "build-source" if isinstance(op, ContextSource | HttpSource | GitSource | ImageSource) else "build-step"


def _looked_into(op: Operation) -> bool:
    """Whether a key is of what is in the inputs: all others' are of what the inputs are called."""
    return isinstance(op, Files) and any(isinstance(action, Copy) for action in op.actions)
