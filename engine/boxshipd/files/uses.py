"""Who has a container's files open, and when they have to let go.

A start mounts an overlay on directories that no other may use at the same time, and a removal takes them away. So both wait
for those who copy: a start patiently, a removal not at all; whoever isn't done by then is ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from boxshipd.errors import Conflict

PATIENCE = 10.0
"""Seconds a start leaves to those who copy."""


class Uses:
    """The users of every container's files."""

    def __init__(self) -> None:
        self._tasks: dict[str, set[asyncio.Task[object]]] = {}
        self._free: dict[str, asyncio.Event] = {}
        self._ended: Counter[asyncio.Task[object]] = Counter()

    def enter(self, container_id: str, task: asyncio.Task[object]) -> None:
        """``task`` uses a container's files from now on."""
        self._tasks.setdefault(container_id, set()).add(task)
        self._free.setdefault(container_id, asyncio.Event())

    @asynccontextmanager
    async def hold(self, container_id: str, what: str) -> AsyncIterator[None]:
        """Use a container's files inside the block. Whoever needs them for the container ends the task.

        Args:
            container_id: the container's.
            what: what is done, for the error's message.

        Raises:
            Conflict: it was ended.
        """
        task = current_task()
        self.enter(container_id, task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ended[task]:
                raise
            task.uncancel()
            raise Conflict(f"{what} was ended: the container is being started or removed") from None
        finally:
            self.leave(container_id, task)

    def leave(self, container_id: str, task: asyncio.Task[object]) -> None:
        """``task`` doesn't use a container's files any more."""
        users = self._tasks.get(container_id, set())
        users.discard(task)
        del self._ended[task]
        if not users and self._tasks.pop(container_id, None) is not None:
            self._free.pop(container_id).set()

    async def vacate(self, container_id: str, patience: float = PATIENCE) -> None:
        """Wait until nobody uses a container's files, ``patience`` seconds at most, then end who still does."""
        free = self._free.get(container_id)
        if free is None:
            return
        if patience:
            try:
                async with asyncio.timeout(patience):
                    await free.wait()
            except TimeoutError:
                pass
        self.end(container_id)
        await free.wait()

    def end(self, container_id: str) -> None:
        """End everybody who uses a container's files."""
        for task in tuple(self._tasks.get(container_id, ())):
            if not self._ended[task]:
                self._ended[task] += 1
                task.cancel()

    async def close(self) -> None:
        """End everybody, and wait for that."""
        for container_id in tuple(self._tasks):
            await self.vacate(container_id, 0)


def current_task() -> asyncio.Task[object]:
    """The task that is running."""
    task = asyncio.current_task()
    assert task is not None
    return task
