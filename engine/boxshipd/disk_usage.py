"""What images, containers, volumes and the build cache take on the disk, as ``system df`` shows it.

Source: moby daemon/disk_usage.go, api/server/router/system (getDiskUsage).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from boxship.types.containers import ContainerSummary
from boxship.types.images import ImageSummary
from boxship.types.system import DiskUsage
from boxship.types.volumes import Volume

from boxshipd.builder.cache.service import BuildCache
from boxshipd.containers.service import Containers
from boxshipd.errors import InvalidParameter
from boxshipd.images.service import Images
from boxshipd.volumes.service import Volumes

KINDS = frozenset({"container", "image", "volume", "build-cache"})


async def disk_usage(
    containers: Containers, images: Images, volumes: Volumes, build_cache: BuildCache, kinds: Collection[str] = ()
) -> DiskUsage:
    """Measure it.

    Args:
        containers: the containers.
        images: the images.
        volumes: the volumes.
        build_cache: what is kept of builds.
        kinds: what to tell of, of ``KINDS``; everything where that is empty.

    Raises:
        InvalidParameter: there is no such kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise InvalidParameter(f"unknown object type: {kind}")
    wanted = set(kinds) or KINDS

    async def of_images() -> list[ImageSummary] | None:
        return await images.list(shared_size=True, containers=True) if "image" in wanted else None

    async def of_containers() -> list[ContainerSummary] | None:
        return await containers.list(all=True, size=True) if "container" in wanted else None

    async def of_volumes() -> list[Volume] | None:
        return await volumes.measured() if "volume" in wanted else None

    found_images, found_containers, found_volumes = await asyncio.gather(of_images(), of_containers(), of_volumes())
    return DiskUsage(
        layers_size=images.layers_size() if "image" in wanted else 0,
        images=found_images,
        containers=found_containers,
        volumes=found_volumes,
        build_cache=build_cache.usage() if "build-cache" in wanted else None,
    )
