"""What clients are shown of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from boxship.types.build_cache import BuildCache as BuildCacheInfo
from boxship.units import rfc3339

from boxshipd.builder.cache.model import Record


def listing(records: Iterable[Record], shared: Callable[[Record], bool]) -> list[BuildCacheInfo]:
    """Records as ``GET /system/df`` lists them.

    Args:
        records: the records.
        shared: tells whether images have a record's layers too.
    """
    return [
        BuildCacheInfo(
            id=record.id,
            parents=list(record.parents) or None,
            type=record.kind,
            description=record.description,
            in_use=record.holders > 0,
            shared=shared(record),
            size=record.size,
            created_at=_time(record.created),
            last_used_at=_time(record.used) if record.used else None,
            usage_count=record.uses,
        )
        for record in records
    ]


def _time(seconds: float) -> str:
    whole = int(seconds)
    return rfc3339(whole, int((seconds - whole) * 1e9))
