"""What is shown of an output: a vertex that no graph has, with its parts."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator

from boxship.types.build import BuildProgress, BuildStatus, BuildVertex
from boxship.types.images import ProgressMessage
from msgspec import UNSET
from msgspec.structs import replace

from boxshipd.builder.progress import Sink


class Step:
    """An output being made; see ``shown``."""

    def __init__(self, vertex: BuildVertex, sink: Sink) -> None:
        self._vertex = vertex
        self._sink = sink

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part of it, which takes as long as the block."""
        status = BuildStatus(id=name, vertex=self._vertex.digest, started=time.time_ns())
        self._tell(replace(status, timestamp=status.started))
        yield
        now = time.time_ns()
        self._tell(replace(status, timestamp=now, completed=now))

    def pass_on(self, message: ProgressMessage) -> None:
        """What a push tells of its layers."""
        detail = message.progress_detail
        if message.status is UNSET or message.id is UNSET:
            return
        self._tell(
            BuildStatus(
                id=f"{message.status} {message.id}",
                vertex=self._vertex.digest,
                current=(detail.current or 0) if detail is not UNSET else 0,
                total=(detail.total or 0) if detail is not UNSET else 0,
                timestamp=time.time_ns(),
            )
        )

    def _tell(self, status: BuildStatus) -> None:
        self._sink(BuildProgress(statuses=(status,)))


@contextlib.contextmanager
def shown(name: str, sink: Sink) -> Iterator[Step]:
    """Show that an output is being made, inside the block."""
    digest = f"sha256:{hashlib.sha256(f'{name} {time.time_ns()}'.encode()).hexdigest()}"
    vertex = BuildVertex(digest=digest, name=name, started=time.time_ns())
    sink(BuildProgress(vertices=(vertex,)))
    try:
        yield Step(vertex, sink)
    except BaseException as error:
        failed = replace(vertex, completed=time.time_ns(), error=str(error) or "canceled")
        sink(BuildProgress(vertices=(failed,)))
        raise
    sink(BuildProgress(vertices=(replace(vertex, completed=time.time_ns()),)))
