"""Execs over HTTP: the client's socket itself is handed over, as for attaching.

Source: Docker Engine API v1.51, the Exec operations.
"""

from __future__ import annotations

from aiohttp.web_response import StreamResponse
from boxrun.supervisor.contract import Framing
from boxship.types.execs import ExecCreateRequest, ExecCreateResponse, ExecStartRequest

from boxshipd.api import websocket
from boxshipd.api.attach import stream_head
from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.api.connection import ClientGoneError, TakenOver
from boxshipd.api.errors import response_to
from boxshipd.containers.service import Containers
from boxshipd.execs.service import Execs


class ExecOperations:
    """The operations on execs."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    @property
    def _execs(self) -> Execs:
        return self._containers.execs

    async def create(self, call: Call) -> StreamResponse:
        """ContainerExec."""
        request = await call.json(ExecCreateRequest)
        return json_response(ExecCreateResponse(id=self._execs.create(call.name, request)), 201)

    async def inspect(self, call: Call) -> StreamResponse:
        """ExecInspect."""
        return json_response(await self._execs.inspect(call.name))

    async def resize(self, call: Call) -> StreamResponse:
        """ExecResize."""
        height = call.query.unsigned("h", "resize height")
        width = call.query.unsigned("w", "resize width")
        await self._execs.resize(call.name, height, width)
        return empty_response(200)

    async def start(self, call: Call) -> StreamResponse:
        """ExecStart: detached, or the connection becomes the program's stream."""
        try:
            request = await call.json(ExecStartRequest)
            size = request.console_size if request.tty and call.version >= (1, 42) else None
            if request.detach:
                await self._execs.startable(call.name, size).detached()
                response = empty_response(200)
                call.connection.refuse_takeover(response)
                return response
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, HTTP goes on with an answer
            return _refused(call, error, "ExecStart")
        framing: Framing = "raw" if request.tty else "multiplexed"
        return await self._hand_over(call, framing, stream_head(call, request.tty), size)

    async def start_websocket(self, call: Call) -> StreamResponse:
        """ExecStartWebsocket: the same in websocket messages; ``h`` and ``w`` set the terminal's size."""
        try:
            head = websocket.accept(call.request.headers)
            size = None
            if "h" in call.query or "w" in call.query:
                size = [call.query.unsigned("h", "console height"), call.query.unsigned("w", "console width")]
        except Exception as error:  # noqa: BLE001 - as above
            return _refused(call, error, "ExecStartWebsocket")
        multiplexed = websocket.wants_multiplexed(call.request.headers)
        return await self._hand_over(call, "websocket-multiplexed" if multiplexed else "websocket", head, size)

    async def _hand_over(self, call: Call, framing: Framing, head: bytes, size: list[int] | None) -> StreamResponse:
        connection = call.connection
        try:
            start = self._execs.startable(call.name, size)
        except Exception as error:  # noqa: BLE001 - as above
            return _refused(call, error, "ExecStart")
        try:
            descriptor, received = connection.take_over(head)
        except BaseException:
            start.abandon()
            raise
        try:
            await start.hand_over(descriptor, framing, received)
        finally:
            connection.release()
        return TakenOver()


def _refused(call: Call, error: Exception, operation: str) -> StreamResponse:
    response = response_to(error, operation)
    call.connection.refuse_takeover(response)
    return response
