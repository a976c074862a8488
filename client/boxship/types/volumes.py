"""Volumes: what a client asks for, and what the engine says of one.

Source: Docker Engine API v1.51, definitions Volume, VolumeCreateOptions, VolumeListResponse and the bodies of the Volume
operations.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType


class VolumeUsage(Struct, rename="pascal", frozen=True):
    """A volume's size in bytes and how many containers use it; -1 where that wasn't measured."""

    size: int = -1
    ref_count: int = -1


class Volume(Struct, rename="pascal", frozen=True):
    """A volume. ``created_at`` is RFC 3339, ``mountpoint`` the directory in the host."""

    name: str
    driver: str
    mountpoint: str
    labels: dict[str, str] | None
    scope: str
    options: dict[str, str] | None
    created_at: str | UnsetType = UNSET
    status: dict[str, Any] | UnsetType = UNSET
    usage_data: VolumeUsage | UnsetType | None = UNSET


class VolumeCreateRequest(Struct, rename="pascal", frozen=True):
    """The body of ``VolumeCreate``; an empty name gets one made up, an empty driver is ``local``."""

    name: str = ""
    driver: str = ""
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


class VolumeListResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``VolumeList``."""

    volumes: list[Volume] | None
    warnings: list[str] | None


class VolumePruneResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``VolumePrune``; space in bytes."""

    volumes_deleted: list[str] | None
    space_reclaimed: int
