"""What a vertex has made, as long as somebody uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from boxshipd.builder.cache.service import Use
from boxshipd.builder.results import Result, Snapshot, Tree
from boxshipd.images.workers import Workers


class Outcome:
    """A vertex's outputs. It is made with one user; each ``share`` makes one more.

    Args:
        results: the outputs.
        use: keeps those of them that are file systems; None as long as they aren't here.
        fetch: fetches them then.

    Attributes:
        results: the outputs, the file systems as the cache has them.
        record: the id of the cache's record, empty where there is none.
    """

    def __init__(self, results: Sequence[Result], use: Use | None, fetch: Callable[[], Awaitable[Use]] | None = None) -> None:
        self.results = tuple(results)
        self.record = ""
        self._use: Use | None = None
        self._fetch = fetch
        self._fetching = asyncio.Lock()
        self._users = 1
        if use is not None:
            self._keep(use)

    @property
    def here(self) -> bool:
        """Whether its file systems are."""
        return self._use is not None

    async def fetched(self) -> Outcome:
        """Have its file systems here; nothing happens where they are.

        Raises:
            DaemonError: they can't be had.
        """
        if self._use is None and self._fetch is not None:
            async with self._fetching:
                if self._use is None:
                    self._keep(await self._fetch())
        return self

    def share(self) -> Outcome:
        """Use it as well."""
        self._users += 1
        return self

    def release(self) -> list[Tree]:
        """Use it no more; what its last user is to close, on a thread."""
        self._users -= 1
        if self._users:
            return []
        if self._use is not None:
            self._use.release()
        return [result for result in self.results if isinstance(result, Tree)]

    def _keep(self, use: Use) -> None:
        kept = iter(use.snapshots)
        self.results = tuple(next(kept) if isinstance(result, Snapshot) else result for result in self.results)
        self.record = use.record
        self._use = use


async def release_all(outcomes: Iterable[Outcome], workers: Workers) -> None:
    """Use none of these any more. It is carried through, even if the caller is cancelled."""
    trees = [tree for outcome in outcomes for tree in outcome.release()]
    await close_all(trees, workers)


async def close_all(trees: Sequence[Tree], workers: Workers) -> None:
    """Close trees."""

    def close() -> None:
        for tree in trees:
            tree.close()

    if trees:
        await workers.run(close)
