"""Work that several clients want at the same time is done once, and goes on as long as one of them is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Hashable
from contextlib import aclosing
from typing import Any

from boxship.types.images import ProgressMessage

from boxshipd.images.output import Output


class _Work:
    def __init__(self, output: Output, task: asyncio.Task[None]) -> None:
        self.output = output
        self.task = task
        self.followers = 0


class Sharing:
    """The work under way, by what it is for."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, _Work] = {}

    async def follow(
        self, key: Hashable, work: Callable[[Output], Coroutine[Any, Any, None]]
    ) -> AsyncGenerator[ProgressMessage, None]:
        """Begin work, or join it where somebody has begun the same; what it tells, from the beginning.

        When the last follower has gone, the work is cancelled and its end waited for.

        Args:
            key: what it is for: equal keys, equal work.
            work: does it, telling an output.
        """
        shared = self._under_way.get(key)
        if shared is None:
            shared = self._begin(key, work)
        shared.followers += 1
        try:
            async with aclosing(shared.output.follow()) as messages:
                async for message in messages:
                    yield message
            await asyncio.shield(shared.task)
        finally:
            shared.followers -= 1
            if not shared.followers and not shared.task.done():
                # Nobody may join what is about to end.
                if self._under_way.get(key) is shared:
                    del self._under_way[key]
                shared.task.cancel()
                await asyncio.wait([shared.task])

    def _begin(self, key: Hashable, work: Callable[[Output], Coroutine[Any, Any, None]]) -> _Work:
        output = Output()
        shared = _Work(output, asyncio.ensure_future(work(output)))
        self._under_way[key] = shared

        def ended(task: asyncio.Task[None]) -> None:
            if self._under_way.get(key) is shared:
                del self._under_way[key]
            if not task.cancelled():
                # Looked at, so that a failure whose clients have gone isn't reported as lost.
                task.exception()
            output.end()

        shared.task.add_done_callback(ended)
        return shared
