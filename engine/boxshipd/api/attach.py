"""Attaching to a container: the client's socket itself is handed over, and the daemon is out of the data path.

Source: Docker Engine API v1.51, ContainerAttach ("Hijacking") and ContainerAttachWebsocket.
"""

from __future__ import annotations

from aiohttp.web_response import StreamResponse
from boxrun.supervisor.contract import Framing

from boxshipd.api import websocket
from boxshipd.api.call import Call
from boxshipd.api.connection import TakenOver
from boxshipd.api.errors import response_to
from boxshipd.api.version import HEADERS
from boxshipd.containers.service import AttachOptions, Containers

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_COMMON = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())


class AttachOperations:
    """The two ways to attach."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def attach(self, call: Call) -> StreamResponse:
        """ContainerAttach: the connection becomes the container's stream."""
        return await self._hand_over(call, _options(call), "multiplexed")

    async def attach_websocket(self, call: Call) -> StreamResponse:
        """ContainerAttachWebsocket: the same in websocket messages. Before API 1.42 all streams are attached."""
        options = _options(call, everything=call.version < (1, 42))
        multiplexed = websocket.wants_multiplexed(call.request.headers)
        return await self._hand_over(call, options, "websocket-multiplexed" if multiplexed else "websocket")

    async def _hand_over(self, call: Call, options: AttachOptions, framing: Framing) -> StreamResponse:
        connection = call.connection
        try:
            head = websocket.accept(call.request.headers) if framing.startswith("websocket") else b""
            slot = await self._containers.attachable(call.name, options, framing)
        except Exception as error:  # noqa: BLE001 - whatever it is, HTTP goes on with an answer
            response = response_to(error, "ContainerAttach")
            connection.refuse_takeover(response)
            return response
        try:
            descriptor, received = connection.take_over(head or stream_head(call, slot.tty))
        except BaseException:
            slot.abandon()
            raise
        try:
            await slot.hand_over(descriptor, received)
        finally:
            connection.release()
        return TakenOver()


def _options(call: Call, everything: bool = False) -> AttachOptions:
    query = call.query
    return AttachOptions(
        stdin=everything or query.boolean("stdin"),
        stdout=everything or query.boolean("stdout"),
        stderr=everything or query.boolean("stderr"),
        stream=query.boolean("stream"),
        logs=query.boolean("logs"),
        detach_keys=query.text("detachKeys") or None,
    )


def stream_head(call: Call, tty: bool) -> bytes:
    """The head that begins the stream; a client that didn't ask for an upgrade gets the old form."""
    if "Upgrade" not in call.request.headers:
        return f"HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n{_COMMON}\r\n".encode()
    kind = RAW if tty or call.version < (1, 42) else MULTIPLEXED
    return f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{_COMMON}\r\n".encode()
