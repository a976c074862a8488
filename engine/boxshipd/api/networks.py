"""Networks over HTTP. Source: Docker Engine API v1.51, the Network operations."""

from __future__ import annotations

from aiohttp.web_response import StreamResponse
from boxship.types.networks import NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest

from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.containers.service import Containers
from boxshipd.filters import Filters
from boxshipd.networks.service import Networks


class NetworkOperations:
    """The operations on networks."""

    def __init__(self, networks: Networks, containers: Containers) -> None:
        self._networks = networks
        self._containers = containers

    async def list(self, call: Call) -> StreamResponse:
        """NetworkList."""
        return json_response(self._networks.list(Filters.parse(call.query.text("filters"))))

    async def inspect(self, call: Call) -> StreamResponse:
        """NetworkInspect. ``verbose`` adds what only Swarm's networks have."""
        return json_response(self._networks.inspect(call.name, call.query.text("scope")))

    async def create(self, call: Call) -> StreamResponse:
        """NetworkCreate."""
        return json_response(await self._networks.create(await call.json(NetworkCreateRequest)), 201)

    async def remove(self, call: Call) -> StreamResponse:
        """NetworkDelete."""
        await self._networks.remove(call.name)
        return empty_response()

    async def connect(self, call: Call) -> StreamResponse:
        """NetworkConnect."""
        request = await call.json(NetworkConnectRequest)
        await self._containers.connect(request.container, call.name, request.endpoint_config)
        return empty_response(200)

    async def disconnect(self, call: Call) -> StreamResponse:
        """NetworkDisconnect."""
        request = await call.json(NetworkDisconnectRequest)
        await self._containers.disconnect(request.container, call.name, force=request.force)
        return empty_response(200)

    async def prune(self, call: Call) -> StreamResponse:
        """NetworkPrune."""
        return json_response(await self._networks.prune(Filters.parse(call.query.text("filters"))))
