"""A directory of the daemon's as a tree: a repository that was checked out, a file that was downloaded."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from boxshipd.builder.trees.disk import DiskTree
from boxshipd.images.unpack.removal import remove_tree


class DirectoryTree(DiskTree):
    """The directory, which nobody may change meanwhile.

    Args:
        path: where it is.
        remove: a directory that is removed when the tree is closed: itself, or one that it is in; empty for none.
    """

    def __init__(self, path: str, *, remove: str = "") -> None:
        super().__init__([path])
        self._path = path
        self._remove = remove

    def directory(self) -> AbstractContextManager[str]:
        """As the base's."""
        return nullcontext(self._path)

    def close(self) -> None:
        """As the base's. Idempotent."""
        super().close()
        if self._remove:
            remove_tree(self._remove)
