"""What a vertex has made, as long as somebody uses it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from boxshipd.builder.cache.service import Use
from boxshipd.builder.results import Result, Snapshot, Tree
from boxshipd.images.workers import Workers


class Outcome:
    """A vertex's outputs. It is made with one user; each ``share`` makes one more.

    Args:
        results: the outputs.
        use: keeps those of them that are file systems.

    Attributes:
        results: the outputs, the file systems as the cache has them.
        record: the id of the cache's record, empty where there is none.
    """

    def __init__(self, results: Sequence[Result], use: Use) -> None:
        kept = iter(use.snapshots)
        self.results = tuple(next(kept) if isinstance(result, Snapshot) else result for result in results)
        self.record = use.record
        self._use = use
        self._users = 1

    def share(self) -> Outcome:
        """Use it as well."""
        self._users += 1
        return self

    def release(self) -> list[Tree]:
        """Use it no more; what its last user is to close, on a thread."""
        self._users -= 1
        if self._users:
            return []
        self._use.release()
        return [result for result in self.results if isinstance(result, Tree)]


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
