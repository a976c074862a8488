"""Who may be at a container's group: everybody who brings a process into it, or one who freezes or changes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType


class GroupLock:
    """``async with lock`` is for one alone, ``async with lock.entering()`` for any number at a time.

    Who wants to be alone comes before those who want to enter after it.
    """

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._entering = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def __aenter__(self) -> None:
        await self._door.acquire()
        try:
            await self._empty.wait()
        except BaseException:
            self._door.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._door.release()

    @asynccontextmanager
    async def entering(self) -> AsyncIterator[None]:
        """Keep those out who want to be alone."""
        async with self._door:
            self._entering += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._entering -= 1
            if not self._entering:
                self._empty.set()
