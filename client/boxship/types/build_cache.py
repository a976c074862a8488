"""The build cache: what is kept of builds, and what removing it answers.

Source: Docker Engine API v1.51, definition BuildCache and operation BuildPrune.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

CacheKind = Literal["internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount", "regular"]


class BuildCache(Struct, rename="pascal", frozen=True, kw_only=True):
    """One thing that is kept. ``size`` in bytes, of what it alone adds; times are RFC 3339."""

    id: str = field(name="ID")
    parents: list[str] | None = None
    type: CacheKind
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str | None = None
    usage_count: int


class BuildPruneResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``BuildPrune``: ids of what was removed, None for nothing; space in bytes."""

    caches_deleted: list[str] | None
    space_reclaimed: int
