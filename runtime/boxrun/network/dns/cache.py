"""Answers of other servers, kept as long as they say, and no more of them than fit."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final

from boxrun.network.dns.codec import Response

LARGEST: Final = 4 << 20
_OVERHEAD: Final = 400


class Cache:
    """A cache of at most so many bytes; who wasn't asked for longest goes first."""

    def __init__(self, largest: int = LARGEST, clock: Callable[[], float] = monotonic) -> None:
        self._largest = largest
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, Response]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> tuple[Response, int] | None:
        """An answer and its age in seconds; None where there is none any more."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        since, response = entry
        age = int(self._clock() - since)
        if age >= response.ttl:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return response, age

    def put(self, key: Hashable, response: Response) -> None:
        """Keep an answer, if it says that it may be kept."""
        self._remove(key)
        size = len(response.data) + _OVERHEAD
        if response.ttl <= 0 or size > self._largest:
            return
        self._entries[key] = self._clock(), response
        self._size += size
        while self._size > self._largest:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= len(entry[1].data) + _OVERHEAD
