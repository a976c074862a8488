"""Containers over HTTP: queries and bodies in, the engine's answers out.

Source: Docker Engine API v1.51, the Container operations.
"""

from __future__ import annotations

from collections.abc import Awaitable

import msgspec
from aiohttp.web_response import StreamResponse
from boxship.types.containers import ContainerConfig, CreateRequest, WaitResponse
from boxship.types.update import UpdateRequest
from msgspec.structs import replace

from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.containers.service import Containers
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters

_CONDITIONS = ("not-running", "next-exit", "removed")
_EMPTY_CONFIG = ContainerConfig()


class ContainerOperations:
    """The operations on containers but for attaching and logs."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def list(self, call: Call) -> StreamResponse:
        """ContainerList."""
        query = call.query
        filters = Filters.parse(query.text("filters"))
        containers = await self._containers.list(
            all=query.boolean("all"), limit=query.integer("limit") or 0, size=query.boolean("size"), filters=filters
        )
        return json_response(containers)

    async def create(self, call: Call) -> StreamResponse:
        """ContainerCreate."""
        request = await call.json(CreateRequest)
        if all(getattr(request, name) == getattr(_EMPTY_CONFIG, name) for name in _EMPTY_CONFIG.__struct_fields__):
            raise InvalidParameter("config cannot be empty in order to create a container")
        wanted = request.networking_config.endpoints_config if request.networking_config is not None else None
        if call.version < (1, 44) and wanted is not None and len(wanted) > 1:
            raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {', '.join(wanted)}")
        platform = call.query.text("platform") if call.version >= (1, 41) else ""
        return json_response(await self._containers.create(call.query.text("name"), request, platform), 201)

    async def inspect(self, call: Call) -> StreamResponse:
        """ContainerInspect."""
        return json_response(await self._containers.inspect(call.name, call.query.boolean("size")))

    async def start(self, call: Call) -> StreamResponse:
        """ContainerStart. The client's leaving doesn't undo it."""
        length = call.request.content_length
        if (length or 0) > 7 or (length is None and call.request.can_read_body):
            raise InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        if call.query.text("checkpoint"):
            raise InvalidParameter(f"starting container {call.name} from a checkpoint is not supported")
        started = await self._containers.start(call.name, call.query.text("detachKeys") or None)
        return empty_response(204 if started else 304)

    async def stop(self, call: Call) -> StreamResponse:
        """ContainerStop."""
        stopped = await self._containers.stop(call.name, _signal(call), call.query.integer("t"))
        return empty_response(204 if stopped else 304)

    async def restart(self, call: Call) -> StreamResponse:
        """ContainerRestart."""
        await self._containers.restart(call.name, _signal(call), call.query.integer("t"))
        return empty_response()

    async def kill(self, call: Call) -> StreamResponse:
        """ContainerKill."""
        await self._containers.kill(call.name, call.query.text("signal") or "SIGKILL")
        return empty_response()

    async def wait(self, call: Call) -> StreamResponse:
        """ContainerWait. The head of the answer tells that waiting has begun: ``docker run`` starts the container then."""
        condition = call.query.text("condition") or "not-running"
        if condition not in _CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        if call.version < (1, 30):
            with call.cancelled_when_lost():
                return json_response(await (await self._containers.wait(call.name, "not-running")))
        waiter: Awaitable[WaitResponse] = await self._containers.wait(call.name, condition)
        with call.cancelled_when_lost():
            response = await call.open_stream("application/json")
            await response.write(msgspec.json.encode(await waiter) + b"\n")
        return response

    async def remove(self, call: Call) -> StreamResponse:
        """ContainerDelete."""
        query = call.query
        await self._containers.remove(call.name, query.boolean("v"), query.boolean("force"), query.boolean("link"))
        return empty_response()

    async def rename(self, call: Call) -> StreamResponse:
        """ContainerRename."""
        await self._containers.rename(call.name, call.query.text("name"))
        return empty_response()

    async def resize(self, call: Call) -> StreamResponse:
        """ContainerResize."""
        height = call.query.unsigned("h", "resize height")
        width = call.query.unsigned("w", "resize width")
        await self._containers.resize(call.name, height, width)
        return empty_response(200)

    async def pause(self, call: Call) -> StreamResponse:
        """ContainerPause."""
        await self._containers.pause(call.name)
        return empty_response()

    async def unpause(self, call: Call) -> StreamResponse:
        """ContainerUnpause."""
        await self._containers.unpause(call.name)
        return empty_response()

    async def update(self, call: Call) -> StreamResponse:
        """ContainerUpdate."""
        changes = await call.json(UpdateRequest)
        if call.version < (1, 40):
            changes = replace(changes, pids_limit=None)
        return json_response(await self._containers.update(call.name, changes))

    async def top(self, call: Call) -> StreamResponse:
        """ContainerTop."""
        return json_response(await self._containers.top(call.name, call.query.text("ps_args")))

    async def prune(self, call: Call) -> StreamResponse:
        """ContainerPrune."""
        return json_response(await self._containers.prune(Filters.parse(call.query.text("filters"))))


def _signal(call: Call) -> str | None:
    """The signal to stop with, which the API knows since 1.42."""
    return call.query.text("signal") or None if call.version >= (1, 42) else None
