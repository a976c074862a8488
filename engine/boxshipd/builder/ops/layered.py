"""Paths in a stack of layers, as one sees them who has the stack as his root; nothing is mounted for that.

Layers in the store don't change any more, so what a path was found to mean it means for as long as the layers are there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from errno import ELOOP
from types import TracebackType
from typing import Self

from boxshipd.errors import InvalidParameter
from boxshipd.files.changes import Lowers

_MOST_LINKS = 40
"""As many as the kernel follows in one path."""


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
        self._lowers.__exit__(kind, error, trace)

    def place(self, path: str) -> Place:
        """Where a path leads when every symbolic link on the way, and at its end, is followed inside the root.

        Raises:
            InvalidParameter: links lead in a circle.
        """
        resolved, status = _resolve(self._lowers, os.fsencode(path))
        return Place(resolved, status)

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


def _resolve(lowers: Lowers, path: bytes) -> tuple[bytes, os.stat_result | None]:
    """A path without links and the status of what is there; what follows on something that isn't there stays as it is."""
    pending = _parts(path)
    done: list[bytes] = []
    status: os.stat_result | None = lowers.find(b".")
    links = 0
    while pending:
        part = pending.pop()
        if part == b"..":
            done = done[:-1]
            status = lowers.find(b"/".join(done) or b".")
            continue
        here = b"/".join((*done, part))
        status = lowers.find(here) if status is not None and stat.S_ISDIR(status.st_mode) else None
        if status is None or not stat.S_ISLNK(status.st_mode):
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InvalidParameter(f"{os.fsdecode(path)}: {os.strerror(ELOOP).lower()}")
        target = lowers.link(here)
        if target.startswith(b"/"):
            done = []
        status = lowers.find(b"/".join(done) or b".")
        pending += _parts(target)
    return b"/".join(done), status


def _parts(path: bytes) -> list[bytes]:
    """A path's parts, the last one first, as they are taken from a stack."""
    return [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
