"""Who watches the runtime, and what each has still to be told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from boxrun.bus import BusError, Code
from boxrun.supervisor.contract import ContainerStatus, ExecStatus, RuntimeEvent

BACKLOG = 65536
"""Events that may wait for a watcher. One that falls further behind is cut off and has to begin anew, with a listing."""


class Watchers:
    """Hands every event to every watcher, each at its own pace."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[RuntimeEvent | None]] = set()
        self._expecting: set[str] = set()

    def publish(self, event: RuntimeEvent) -> None:
        """Queue ``event`` for every watcher."""
        for queue in list(self._queues):
            if queue.qsize() < BACKLOG:
                queue.put_nowait(event)
            else:
                self._queues.discard(queue)
                queue.put_nowait(None)

    def never_started(self, status: ContainerStatus) -> None:
        """Tell of a start that failed, where a listing had shown it under way; others have it from the answer to their call."""
        if status.id in self._expecting:
            self._expecting.discard(status.id)
            self.publish(RuntimeEvent(kind="exited", status=status))

    async def watch(
        self, statuses: Callable[[], Iterable[ContainerStatus]], execs: Callable[[], Iterable[ExecStatus]]
    ) -> AsyncIterator[RuntimeEvent]:
        """The listing of ``statuses`` and ``execs`` as they are when the watch begins, its end, then everything published.

        Raises:
            BusError: RESOURCE_EXHAUSTED for a watcher that has fallen behind too far.
        """
        queue: asyncio.Queue[RuntimeEvent | None] = asyncio.Queue()
        # No await between the listing and the registration: nothing falls between the two.
        listing = [RuntimeEvent(kind="status", status=status) for status in statuses()]
        listing += [RuntimeEvent(kind="exec", exec=status) for status in execs()]
        self._expecting.update(event.status.id for event in listing if event.status and event.status.phase == "starting")
        self._queues.add(queue)
        try:
            for event in listing:
                yield event
            yield RuntimeEvent(kind="listed")
            while (published := await queue.get()) is not None:
                yield published
            raise BusError(Code.RESOURCE_EXHAUSTED, f"more than {BACKLOG} events were waiting for this watcher")
        finally:
            self._queues.discard(queue)
