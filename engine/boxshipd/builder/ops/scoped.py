"""Executors whose layers are pinned until the solver has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from boxshipd.builder.executor import Executor, Work
from boxshipd.builder.graph import Operation
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.results import Result
from boxshipd.images.assembly import Stores

Op = TypeVar("Op", bound=Operation)


class Scoped(Generic[Op]):
    """An executor that is made anew for each piece of work, with a layer session of its own.

    Args:
        stores: where images are kept.
        make: makes the executor.
    """

    def __init__(self, stores: Stores, make: Callable[[LayerSession], Executor[Any]]) -> None:
        self._stores = stores
        self._make = make

    async def key(self, op: Op, work: Work) -> str:
        """See Executor."""
        # What is looked into is pinned by whoever has made it; nothing new is.
        return await self._make(LayerSession(self._stores)).key(op, work)

    async def run(self, op: Op, work: Work) -> list[Result]:
        """See Executor. What it has made stays pinned until the caller gives control back to the event loop."""
        layers = LayerSession(self._stores)
        try:
            return await self._make(layers).run(op, work)
        finally:
            asyncio.get_running_loop().call_soon(self._release, layers)

    def _release(self, layers: LayerSession) -> None:
        self._stores.catalogue.leave(*layers.release())
