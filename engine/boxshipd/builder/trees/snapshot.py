"""A file system's layers seen as one tree, without mounting anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from boxshipd.builder.trees.disk import DiskTree
from boxshipd.errors import InternalError


class SnapshotTree(DiskTree):
    """The tree. The layers must stay pinned while it is in use.

    Args:
        directories: the layers' directories, topmost first, as ``LayerSession.directories`` gives them; none for an empty one.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        super().__init__(directories)
        self._directories = tuple(directories)

    def directory(self) -> AbstractContextManager[str]:
        """As the base's, for a single layer, which has nothing to hide. Several have to be mounted, by who needs them so.

        Raises:
            InternalError: there are several layers, or none.
        """
        if len(self._directories) != 1:
            raise InternalError(f"a file system of {len(self._directories)} layers is no directory")
        return nullcontext(self._directories[0])
