"""How a build tells what it does: changes of vertices, their progress and output, as they happen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex, BuildWarning
from msgspec.structs import replace

from boxshipd.builder.graph import Vertex

Sink = Callable[[BuildProgress], None]
"""Takes what happened; called on the event loop, it must not wait."""


class Reporter:
    """Tells of one vertex. To be used on the event loop.

    Args:
        vertex: the vertex.
        sink: who is told.
    """

    def __init__(self, vertex: Vertex, sink: Sink) -> None:
        self._sink = sink
        self._shown = BuildVertex(
            digest=vertex.digest, inputs=tuple(each.vertex for each in vertex.inputs), name=vertex.name, stage=vertex.stage
        )

    def announce(self) -> None:
        """It is part of the build."""
        self._sink(BuildProgress(vertices=(self._shown,)))

    def start(self) -> None:
        """It is being carried out, or looked for in the cache."""
        self._change(started=time.time_ns(), completed=0, error="")

    def complete(self, *, cached: bool = False, error: str = "") -> None:
        """It is done, or has failed with ``error``."""
        now = time.time_ns()
        self._change(started=self._shown.started or now, completed=now, cached=cached, error=error)

    def log(self, stream: int, data: bytes) -> None:
        """It printed something: ``stream`` 1 is output, 2 errors."""
        self._sink(
            BuildProgress(logs=(BuildLog(vertex=self._shown.digest, stream=stream, data=data, timestamp=time.time_ns()),))
        )

    def status(self, part: str, current: int = 0, total: int = 0, *, started: int = 0, completed: int = 0) -> None:
        """How far a part of it is; times in ns since the epoch."""
        told = BuildStatus(
            id=part,
            vertex=self._shown.digest,
            current=current,
            total=total,
            timestamp=time.time_ns(),
            started=started,
            completed=completed,
        )
        self._sink(BuildProgress(statuses=(told,)))

    def warn(self, warnings: Iterable[BuildWarning]) -> None:
        """Advice that concerns it."""
        self._sink(BuildProgress(warnings=tuple(replace(each, vertex=self._shown.digest) for each in warnings)))

    def _change(self, *, started: int, completed: int, error: str, cached: bool = False) -> None:
        self._shown = replace(self._shown, started=started, completed=completed, error=error, cached=cached)
        self._sink(BuildProgress(vertices=(self._shown,)))
