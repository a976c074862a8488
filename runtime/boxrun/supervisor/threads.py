"""Work in threads that owns descriptors: a caller who is cancelled takes none with him.

A thread can't be interrupted, and work that still waits for one would be thrown away with what it was to close. So it is always
done to its end, whether anybody waits or not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def to_its_end(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``work`` in a thread. Once this was called it is done, even if the caller is cancelled."""
    return await asyncio.shield(asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs)))


async def opened(work: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    """Run ``work`` in a thread and return its descriptor, which is closed if the caller is cancelled meanwhile."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_close)
        raise


def _close(task: asyncio.Task[int]) -> None:
    if not task.cancelled() and task.exception() is None:
        os.close(task.result())
