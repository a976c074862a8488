"""One build: its vertices in order, each as soon as its inputs are there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from boxshipd.builder.executor import Surroundings
from boxshipd.builder.graph import Graph, Input, Vertex
from boxshipd.builder.progress import Reporter, Sink
from boxshipd.builder.results import Result
from boxshipd.builder.solver.outcome import Outcome
from boxshipd.errors import InternalError

_CANCELLED = "canceled"


class Build:
    """What a build has to do, and has done.

    Args:
        graph: the operations.
        wanted: what is asked for; what that doesn't need isn't touched.
        around: what commands run under.
        sink: who is told.
        solve: solves one vertex whose inputs are given; it tells whether it came from the cache.

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
    ) -> None:
        self.around = around
        self.sink = sink
        self.vertices = _needed(graph, wanted)
        self.reports = {digest: Reporter(vertex, sink) for digest, vertex in self.vertices.items()}
        self.outcomes: dict[str, Outcome] = {}
        self._wanted = wanted
        self._solve = solve
        self._waiting = {digest: len({one.vertex for one in vertex.inputs}) for digest, vertex in self.vertices.items()}
        self._users: dict[str, list[str]] = {digest: [] for digest in self.vertices}
        for digest, vertex in self.vertices.items():
            for used in dict.fromkeys(one.vertex for one in vertex.inputs):
                self._users[used].append(digest)

    async def run(self) -> list[Result]:
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
        return [result(self.outcomes[one.vertex], one) for one in self._wanted]

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
