"""Volumes over HTTP. Source: Docker Engine API v1.51, the Volume operations."""

from __future__ import annotations

from aiohttp.web_response import StreamResponse
from boxship.types.volumes import VolumeCreateRequest

from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.errors import Unavailable
from boxshipd.filters import Filters
from boxshipd.volumes.service import Volumes


class VolumeOperations:
    """The operations on volumes."""

    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def list(self, call: Call) -> StreamResponse:
        """VolumeList."""
        return json_response(self._volumes.list(Filters.parse(call.query.text("filters"))))

    async def create(self, call: Call) -> StreamResponse:
        """VolumeCreate."""
        return json_response(await self._volumes.create(await call.json(VolumeCreateRequest)), 201)

    async def inspect(self, call: Call) -> StreamResponse:
        """VolumeInspect."""
        return json_response(self._volumes.inspect(call.name))

    async def update(self, call: Call) -> StreamResponse:
        """VolumeUpdate, which only a Swarm's volumes have."""
        raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")

    async def remove(self, call: Call) -> StreamResponse:
        """VolumeDelete."""
        await self._volumes.remove(call.name, force=call.query.boolean("force"))
        return empty_response()

    async def prune(self, call: Call) -> StreamResponse:
        """VolumePrune. Before API 1.42 it took every unused volume, since then only those without a name."""
        filters = Filters.parse(call.query.text("filters"))
        return json_response(await self._volumes.prune(filters, everything=call.version < (1, 42)))
