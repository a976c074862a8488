"""The numbers of owners inside a container and on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from boxrun.container.spec import IDMapping
from boxrun.linux import process

OVERFLOW = 65534
"""Whom the kernel shows as owner where an id isn't mapped. Source: user_namespaces(7)."""


class Owners:
    """Translates owners. Without mappings both are the same.

    Args:
        uids, gids: the user namespace's mappings.
    """

    def __init__(self, uids: Sequence[IDMapping] = (), gids: Sequence[IDMapping] = ()) -> None:
        self._uids = uids
        self._gids = gids

    def inside(self, uid: int, gid: int) -> tuple[int, int]:
        """An owner on the disk as the container sees it."""
        return _inside(self._uids, uid), _inside(self._gids, gid)

    def outside(self, uid: int, gid: int) -> tuple[int, int]:
        """An owner in the container as it is on the disk; one that isn't mapped becomes the container's root."""
        return _outside(self._uids, uid), _outside(self._gids, gid)

    @contextmanager
    def making(self) -> Iterator[None]:
        """Make files as the container's root, on this thread: its file system doesn't know the host's."""
        if not self._uids:
            yield
            return
        process.set_file_system_ids(*self.outside(0, 0))
        try:
            yield
        finally:
            process.set_file_system_ids(0, 0)


def _inside(mappings: Sequence[IDMapping], number: int) -> int:
    if not mappings:
        return number
    for mapping in mappings:
        if mapping.outside <= number < mapping.outside + mapping.size:
            return mapping.inside + number - mapping.outside
    return OVERFLOW


def _outside(mappings: Sequence[IDMapping], number: int) -> int:
    if not mappings:
        return number
    for wanted in (number, 0):
        for mapping in mappings:
            if mapping.inside <= wanted < mapping.inside + mapping.size:
                return mapping.outside + wanted - mapping.inside
    return number
