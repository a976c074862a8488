"""Which records go, and in which order.

What a running build uses stays, and so does whatever another record was made of: it could never be found again without it.
Source: BuildKit cache/manager.go (prune), moby builder/builder-next/builder.go (toBuildkitPruneInfo).
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

from boxship.errors import InvalidValue
from boxship.units import moment
from msgspec import Struct

from boxshipd.builder.cache.model import Record
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters

FILTERS = ("id", "parent", "type", "description", "inuse", "shared", "private", "until", "unused-for")
_BUILDERS_OWN = frozenset({"internal", "frontend"})


class PruneOptions(Struct, frozen=True, kw_only=True):
    """What is to be removed; sizes in bytes, 0 for no such bound.

    Attributes:
        everything: also what images share, and what the builder keeps for itself.
        reserved_space: as much is kept, whatever the others say.
        max_used_space: no more than that is kept.
        min_free_space: so much is to be free on the disk.
        filters: of ``FILTERS``.
    """

    everything: bool = False
    reserved_space: int = 0
    max_used_space: int = 0
    min_free_space: int = 0
    filters: Filters = Filters()

    @property
    def bounded(self) -> bool:
        """Whether some of it may be kept for its size alone."""
        return bool(self.reserved_space or self.max_used_space or self.min_free_space)

    def check(self) -> None:
        """Refuse filters that can't be.

        Raises:
            InvalidParameter: one is unknown, has several values, or one that can't be understood.
        """
        self.filters.validate(FILTERS)
        for name in FILTERS:
            if len(self.filters.get(name)) > 1:
                raise InvalidParameter("filters expect only one value")
        if "until" in self.filters and "unused-for" in self.filters:
            raise InvalidParameter('conflicting filters: "until" and "unused-for"')
        _cut_off(self.filters)
        for name in ("inuse", "shared", "private"):
            _flag(self.filters, name)


def bytes_to_keep(options: PruneOptions, total: int, free: int) -> int:
    """How much of the cache may stay.

    Args:
        options: the bounds.
        total: what there is.
        free: what is free on the disk.
    """
    keep = options.max_used_space or total
    excess = options.min_free_space - free
    if excess > 0:
        keep = min(keep, total - excess)
    elif not options.max_used_space and not options.min_free_space:
        keep = 0
    return max(keep, options.reserved_space)


def choose(records: Collection[Record], options: PruneOptions, shared: Callable[[Record], bool], free: int) -> list[Record]:
    """The records to be removed, in order: what was made of others before these.

    Args:
        records: all there are.
        options: what is wanted.
        shared: tells whether images have a record's layers too.
        free: bytes that are free on the disk.
    """
    excess = -1
    if options.bounded:
        total = sum(record.size for record in records if not shared(record))
        excess = total - bytes_to_keep(options, total, free)
        if excess <= 0:
            return []
    matching = _matching(records, options, shared)
    children = Counter(parent for record in records for parent in record.parents)
    ranks = _ranks(matching.values())
    ready = [(rank, name) for name, rank in ranks.items() if not children[name]]
    heapq.heapify(ready)
    chosen: list[Record] = []
    while ready and (not options.bounded or excess > 0):
        record = matching[heapq.heappop(ready)[1]]
        chosen.append(record)
        if not shared(record):
            excess -= record.size
        for parent in record.parents:
            children[parent] -= 1
            if not children[parent] and parent in matching:
                heapq.heappush(ready, (ranks[parent], parent))
    return chosen


def _matching(records: Iterable[Record], options: PruneOptions, shared: Callable[[Record], bool]) -> dict[str, Record]:
    """What may go as far as the options say."""
    filters = options.filters
    cut_off = _cut_off(filters)
    wanted = {name: _flag(filters, name) for name in ("inuse", "shared", "private")}
    found = {}
    for record in records:
        of_image = shared(record)
        if record.holders or wanted["inuse"]:
            continue
        if not options.everything and (of_image or record.kind in _BUILDERS_OWN):
            continue
        if cut_off is not None and (record.used or record.created) >= cut_off:
            continue
        if wanted["shared"] not in (None, of_image) or wanted["private"] not in (None, not of_image):
            continue
        if (
            filters.pattern("id", record.id)
            and filters.exact("type", record.kind)
            and filters.exact("description", record.description)
            and (not filters.get("parent") or filters.get("parent")[0] in record.parents)
        ):
            found[record.id] = record
    return found


def _ranks(records: Iterable[Record]) -> dict[str, int]:
    """What was used least and longest ago comes first: each record's places in both orders, added up."""
    listed: Sequence[Record] = list(records)
    ranks: Counter[str] = Counter()
    for order in (sorted(listed, key=lambda one: one.used or one.created), sorted(listed, key=lambda one: one.uses)):
        ranks.update({record.id: place for place, record in enumerate(order)})
    return {record.id: ranks[record.id] for record in listed}


def _cut_off(filters: Filters) -> float | None:
    """Until when something must have been used last, in seconds since the epoch; None where that doesn't matter."""
    for name in ("until", "unused-for"):
        for text in filters.get(name):
            try:
                return float(moment(text, time.time()))
            except (InvalidValue, ValueError) as error:
                raise InvalidParameter(f"\"{name}\" filter expects a duration (e.g., '24h') or a timestamp: {error}") from error
    return None


def _flag(filters: Filters, name: str) -> bool | None:
    """What a filter that is on or off says; given without a value, it is on."""
    if name not in filters:
        return None
    return True if filters.get(name) in ((), ("",)) else filters.boolean(name, True)
