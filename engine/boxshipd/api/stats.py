"""A container's resource usage, over plain HTTP as Docker's clients read it, and over a websocket as ours may.

Source: Docker Engine API v1.51, ContainerStats.
"""

from __future__ import annotations

from aiohttp.web_response import StreamResponse

from boxshipd.api import websocket
from boxshipd.api.call import Call, json_response
from boxshipd.api.jsonstream import document
from boxshipd.api.websocket_stream import sending
from boxshipd.containers.service import Containers
from boxshipd.errors import InvalidParameter


class StatsOperations:
    """The two ways to read statistics."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def stats(self, call: Call) -> StreamResponse:
        """ContainerStats: a sample a second, the second one alone (``stream=0``), or one at once (``one-shot=1``)."""
        stream = call.query.boolean("stream", default=True)
        one_shot = call.query.boolean("one-shot") and call.version >= (1, 41)
        if stream and one_shot:
            raise InvalidParameter("cannot have stream=true and one-shot=true")
        if one_shot or not stream:
            with call.cancelled_when_lost():
                return json_response(await self._containers.stats_once(call.name, primed=not one_shot))
        follower = self._containers.stats(call.name)
        try:
            with call.cancelled_when_lost():
                response = await call.open_stream("application/json")
                async for sample in follower:
                    await response.write(document(sample))
        finally:
            follower.close()
        return response

    async def websocket(self, call: Call) -> StreamResponse:
        """ContainerStatsWebsocket: a sample a second, each in a text message."""
        websocket.accept(call.request.headers)
        follower = self._containers.stats(call.name)
        try:
            async with sending(call) as response:
                async for sample in follower:
                    await response.send_str(document(sample, b"").decode())
        finally:
            follower.close()
        return response
