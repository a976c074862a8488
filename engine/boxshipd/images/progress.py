"""Telling a client how far work on a thread has come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

from boxship.types.images import ProgressDetail, ProgressMessage

from boxshipd.images.digest import parse_digest
from boxshipd.images.workers import Cancellation

_INTERVAL = 0.1


def line(text: str) -> ProgressMessage:
    """A line for people to read."""
    return ProgressMessage(stream=text + "\n")


class LayerProgress:
    """Progress of layers, one after the other. ``update`` is called on a worker's thread, everything else on the event loop."""

    def __init__(self, cancellation: Cancellation, status: str, *, quiet: bool) -> None:
        self._cancellation = cancellation
        self._status = status
        self._quiet = quiet
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[ProgressMessage | None] = asyncio.Queue()
        self._due = 0.0

    def update(self, diff_id: str, done: int, total: int) -> None:
        """So much of a layer is done; at most ten times a second, and at its end, the client is told.

        Raises:
            Cancelled: the work was given up.
        """
        self._cancellation.check()
        if self._quiet:
            return
        now = time.monotonic()
        if now >= self._due or done == total:
            self._due = now + _INTERVAL
            detail = ProgressDetail(current=done, total=total)
            message = ProgressMessage(status=self._status, id=parse_digest(diff_id).hex[:12], progress_detail=detail)
            self._loop.call_soon_threadsafe(self._queue.put_nowait, message)

    async def messages(self, work: asyncio.Future[Any]) -> AsyncGenerator[ProgressMessage, None]:
        """What there is to tell until the work ends; its error is raised here. If this is given up, so is the work."""
        work.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while (message := await self._queue.get()) is not None:
                yield message
            await work
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
