"""One build: its vertices in order, each as soon as its inputs are there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from boxshipd.builder.cache.document import Solved
from boxshipd.builder.cache.imported import Claim
from boxshipd.builder.executor import Surroundings
from boxshipd.builder.graph import Graph, Input, Vertex
from boxshipd.builder.progress import Reporter, Sink
from boxshipd.builder.results import Result, Snapshot
from boxshipd.builder.solver.outcome import Outcome
from boxshipd.errors import InternalError

_CANCELLED = "canceled"


class Solution(list[Result]):
    """The results of a build, in the order asked for, and what else has been solved for them."""

    def __init__(self, build: Build, results: Iterable[Result]) -> None:
        super().__init__(results)
        self._build = build

    async def solved(self, *, everything: bool) -> list[Solved]:
        """The vertices whose outcome is found by a key.

        Args:
            everything: fetch what others have and this build didn't need; else that is left out.
        """
        found = []
        for digest, key in self._build.keys.items():
            outcome = self._build.outcomes[digest]
            if everything:
                await outcome.fetched()
            snapshots = tuple(each for each in outcome.results if isinstance(each, Snapshot))
            if outcome.here and len(snapshots) == len(outcome.results):
                found.append(Solved(key, snapshots))
        return found


class Build:
    """What a build has to do, and has done.

    Args:
        graph: the operations.
        wanted: what is asked for; what that doesn't need isn't touched.
        around: what commands run under.
        sink: who is told.
        solve: solves one vertex whose inputs are given; it tells whether it came from the cache.
        imported: what others say that keys give, to be asked in this order.

    Attributes:
        keys: by vertex, what its outcome is found by, where it can be.

    Raises:
        InternalError: the graph hasn't what is wanted.
    """

    def __init__(
        self,
        graph: Graph,
        wanted: Sequence[Input],
        around: Surroundings,
        sink: Sink,
        solve: Callable[[Build, str, Sequence[Outcome]], Awaitable[tuple[Outcome, bool]]],
        *,
        imported: Sequence[Mapping[str, Claim]],
    ) -> None:
        self.around = around
        self.sink = sink
        self.vertices = _needed(graph, wanted)
        self.reports = {digest: Reporter(vertex, sink) for digest, vertex in self.vertices.items()}
        self.outcomes: dict[str, Outcome] = {}
        self.keys: dict[str, str] = {}
        self._imported = imported
        self._wanted = wanted
        self._solve = solve
        self._waiting = {digest: len({one.vertex for one in vertex.inputs}) for digest, vertex in self.vertices.items()}
        self._users: dict[str, list[str]] = {digest: [] for digest in self.vertices}
        for digest, vertex in self.vertices.items():
            for used in dict.fromkeys(one.vertex for one in vertex.inputs):
                self._users[used].append(digest)

    def claim(self, key: str) -> Claim | None:
        """What others say that a key gives."""
        return next((claims[key] for claims in self._imported if key in claims), None)

    async def run(self) -> Solution:
        """Solve what is wanted. The first failure ends all the rest, whose end is waited for."""
        for report in self.reports.values():
            report.announce()
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for digest in [digest for digest, missing in self._waiting.items() if not missing]:
                    group.create_task(self._from(digest, group))
        except ExceptionGroup as failures:
            failure = failures.exceptions[0]
        if failure is not None:
            raise failure
        # The first are the largest, as a rule, and those that follow parts of them.
        found = [(await self.outcomes[one.vertex].fetched(), one) for one in self._wanted]
        return Solution(self, [result(outcome, one) for outcome, one in found])

    async def _from(self, digest: str, group: asyncio.TaskGroup) -> None:
        """Solve a vertex, and then those that it was the last input of: the first of them here, others beside it."""
        ready = [digest]
        while ready:
            here, *others = ready
            for other in others:
                group.create_task(self._from(other, group))
            await self._one(here)
            ready = []
            for user in self._users[here]:
                self._waiting[user] -= 1
                if not self._waiting[user]:
                    ready.append(user)

    async def _one(self, digest: str) -> None:
        vertex, report = self.vertices[digest], self.reports[digest]
        report.start()
        try:
            outcome, cached = await self._solve(self, digest, [self.outcomes[one.vertex] for one in vertex.inputs])
        except asyncio.CancelledError:
            report.complete(error=_CANCELLED)
            raise
        except Exception as error:
            report.complete(error=str(error))
            note = f"in {vertex.name or digest}"
            # One failure may be that of several builds.
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise
        self.outcomes[digest] = outcome
        report.complete(cached=cached)


def result(outcome: Outcome, wanted: Input) -> Result:
    """One output of a vertex.

    Raises:
        InternalError: it has no such one.
    """
    try:
        return outcome.results[wanted.output]
    except IndexError:
        raise InternalError(f"build vertex {wanted.vertex} has no output {wanted.output}") from None


def _needed(graph: Graph, wanted: Sequence[Input]) -> dict[str, Vertex]:
    """The vertices that lead to what is wanted, inputs before those that use them.

    Raises:
        InternalError: one isn't in the graph.
    """
    needed = {one.vertex for one in wanted}
    for digest, vertex in reversed(graph.vertices.items()):
        if digest in needed:
            needed.update(one.vertex for one in vertex.inputs)
    if missing := needed - graph.vertices.keys():
        raise InternalError(f"the build's graph has no vertex {min(missing)}")
    return {digest: vertex for digest, vertex in graph.vertices.items() if digest in needed}
