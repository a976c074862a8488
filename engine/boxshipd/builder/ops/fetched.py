"""What was fetched from the network, as a tree: it is in use as long as somebody reads it."""

from __future__ import annotations

from collections.abc import Callable

from boxshipd.builder.trees.directory import DirectoryTree


class FetchedTree(DirectoryTree):
    """A directory that is in use, or a part of it.

    Args:
        path: the directory.
        release: called when the tree is closed.
        remove: as with any directory.
    """

    def __init__(self, path: str, release: Callable[[], None], *, remove: str = "") -> None:
        super().__init__(path, remove=remove)
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """As the base's. Idempotent."""
        super().close()
        release, self._release = self._release, None
        if release is not None:
            release()
