"""Paths in a stack of layers, as one sees them who has the stack as his root; nothing is mounted for that.

Layers in the store don't change any more, so what a path was found to mean it means for as long as the layers are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

from boxshipd.builder.trees.paths import follow
from boxshipd.files.changes import Lowers

_REMEMBERED = 64
"""Names of a layer's root that are kept in mind."""


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

    Of most paths most layers have nothing, not even their first part; those aren't asked.

    Args:
        directories: the layers' directories, topmost first. What is in them never changes.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = tuple(directories)
        self._stacks: dict[tuple[str, ...], Lowers] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        while self._stacks:
            self._stacks.popitem()[1].close()

    def place(self, path: str) -> Place:
        """Where a path leads when every symbolic link on the way, and at its end, is followed inside the root.

        Raises:
            InvalidParameter: there are too many links on the way.
        """
        resolved = follow(os.fsencode(path), self._target)
        return Place(resolved, self._status(resolved))

    def sources(self, place: Place) -> tuple[str, ...]:
        """What a place is made of on the host: one file, or for a directory those that are shown as one, topmost first."""
        if place.status is None:
            return ()
        if not place.path:
            return self._directories
        asked, lowers = self._lowers(place.path)
        if place.directory:
            layers = lowers.stack(place.path)
        else:
            found = lowers.locate(place.path)
            layers = [found[0]] if found is not None else []
        name = os.fsdecode(place.path)
        return tuple(os.path.join(asked[layer], name) for layer in layers)

    def _target(self, path: bytes) -> bytes | None:
        status = self._status(path)
        return self._lowers(path)[1].link(path) if status is not None and stat.S_ISLNK(status.st_mode) else None

    def _status(self, path: bytes) -> os.stat_result | None:
        if not path:
            return os.stat(self._directories[0])
        return self._lowers(path)[1].find(path)

    def _lowers(self, path: bytes) -> tuple[tuple[str, ...], Lowers]:
        """The layers that may have something of a path, as directories and as one."""
        first = path.partition(b"/")[0]
        asked = tuple(each for each in self._directories if (names := _names(each)) is None or first in names)
        known = self._stacks.get(asked)
        if known is None:
            known = self._stacks[asked] = Lowers(asked)
        return asked, known


@lru_cache(maxsize=4096)
def _names(directory: str) -> frozenset[bytes] | None:
    """The names in a layer's root; None where there are more than are worth remembering."""
    names = os.listdir(os.fsencode(directory))
    return frozenset(names) if len(names) <= _REMEMBERED else None
