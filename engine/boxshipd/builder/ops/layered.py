"""Paths in a stack of layers, as one sees them who has the stack as his root; nothing is mounted for that.

Layers in the store don't change any more, so what a path was found to mean it means for as long as the layers are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from boxshipd.builder.trees.paths import follow
from boxshipd.files.changes import Lowers


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path leads.

    Attributes:
        path: without links, ``.`` and ``..``, relative to the root; empty for the root itself.
        status: of what is there; None for nothing.
    """

    path: bytes
    status: os.stat_result | None

    @property
    def directory(self) -> bool:
        """Whether it is one."""
        return self.status is not None and stat.S_ISDIR(self.status.st_mode)


class LayeredRoot:
    """A stack of layers that is looked into. Use it as a context manager.

    Args:
        directories: the layers' directories, topmost first.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = tuple(directories)
        self._lowers = Lowers(self._directories)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lowers.close()

    def place(self, path: str) -> Place:
        """Where a path leads when every symbolic link on the way, and at its end, is followed inside the root.

        Raises:
            InvalidParameter: there are too many links on the way.
        """
        resolved = follow(os.fsencode(path), self._target)
        return Place(resolved, self._lowers.find(resolved))

    def sources(self, place: Place) -> tuple[str, ...]:
        """What a place is made of on the host: one file, or for a directory those that are shown as one, topmost first."""
        if place.status is None:
            return ()
        if place.directory:
            layers = self._lowers.stack(place.path) if place.path else list(range(len(self._directories)))
        else:
            found = self._lowers.locate(place.path)
            layers = [found[0]] if found is not None else []
        name = os.fsdecode(place.path)
        return tuple(os.path.join(self._directories[layer], name) for layer in layers)

    def _target(self, path: bytes) -> bytes | None:
        status = self._lowers.find(path)
        return self._lowers.link(path) if status is not None and stat.S_ISLNK(status.st_mode) else None
