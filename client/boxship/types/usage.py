"""What takes a daemon's disk, as the API shows it; sizes in bytes.

Source: Docker Engine API v1.51, operation SystemDataUsage, definition BuildCache.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field

from boxship.types.containers import ContainerSummary
from boxship.types.images import ImageSummary
from boxship.types.volumes import Volume


class BuildCacheRecord(Struct, rename="pascal", frozen=True):
    """Something that a build left for the next one."""

    id: str = field(name="ID")
    type: str
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str | UnsetType | None = UNSET
    usage_count: int = 0
    parents: list[str] | UnsetType | None = UNSET


class DiskUsage(Struct, rename="pascal", frozen=True):
    """The answer to ``SystemDataUsage``.

    Attributes:
        layers_size: what all images' layers take, each counted once.
    """

    layers_size: int | UnsetType = UNSET
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[BuildCacheRecord] | None = None
