"""A container's log, over plain HTTP as Docker's clients read it, and over a websocket as ours does.

Source: Docker Engine API v1.51, ContainerLogs.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncIterator

from aiohttp.web_response import StreamResponse

from boxshipd.api import websocket
from boxshipd.api.attach import MULTIPLEXED, RAW
from boxshipd.api.call import Call
from boxshipd.api.jsonstream import closed_afterwards
from boxshipd.api.query import Query
from boxshipd.containers.service import Containers
from boxshipd.errors import DaemonError, InvalidParameter, NotImplementedHere
from boxshipd.logs import LogOptions, LogSource, open_logs

logger = logging.getLogger(__name__)

_SYSTEM_ERROR = 3
"""The stream number under which Docker's clients show an error of the daemon's."""


class LogOperations:
    """The two ways to read a log."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def stream(self, call: Call) -> StreamResponse:
        """ContainerLogs: frames, or the bare bytes of a container with a terminal."""
        options = log_options(call.query)
        source = await self._source(call.name)
        multiplexed = not source.terminal
        with call.cancelled_when_lost():
            # Opened before the head is sent: a client may remove the container as soon as it has that.
            async with open_logs(source, options, multiplexed=multiplexed) as pieces:
                response = await call.open_stream(MULTIPLEXED if multiplexed and call.version >= (1, 42) else RAW)
                async with closed_afterwards(_readable(pieces, call.name, multiplexed)) as readable:
                    async for piece in readable:
                        await response.write(piece)
        return response

    async def websocket(self, call: Call) -> StreamResponse:
        """ContainerLogsWebsocket: the same in binary messages, framed if the client asked for our subprotocol."""
        websocket.accept(call.request.headers)
        options = log_options(call.query)
        source = await self._source(call.name)
        multiplexed = not source.terminal and websocket.wants_multiplexed(call.request.headers)
        async with open_logs(source, options, multiplexed=multiplexed) as pieces:
            return await self._send_over_websocket(call, pieces, multiplexed)

    async def _send_over_websocket(self, call: Call, pieces: AsyncIterator[bytes], multiplexed: bool) -> StreamResponse:
        from aiohttp.web_ws import WebSocketResponse

        response = WebSocketResponse(protocols=(websocket.MULTIPLEXED,), compress=False)
        call.started = True
        await response.prepare(call.request)
        task = asyncio.current_task()
        assert task is not None

        async def until_closed() -> None:
            while not (await response.receive()).type.name.startswith("CLOS"):
                pass
            task.cancel()

        listener = asyncio.create_task(until_closed())
        try:
            async with closed_afterwards(_readable(pieces, call.name, multiplexed)) as readable:
                async for piece in readable:
                    await response.send_bytes(piece)
        finally:
            listener.cancel()
        await response.close()
        return response

    async def _source(self, name: str) -> LogSource:
        source = await self._containers.log_source(name)
        if source.log.driver == "none":
            raise NotImplementedHere("configured logging driver does not support reading")
        return source


def log_options(query: Query) -> LogOptions:
    """What a request wants of a log.

    Raises:
        InvalidParameter: it wants no stream, or says something that can't be understood.
    """
    stdout, stderr = query.boolean("stdout"), query.boolean("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    tail = query.text("tail")
    return LogOptions(
        follow=query.boolean("follow"),
        stdout=stdout,
        stderr=stderr,
        since=query.time_ns("since") or 0,
        until=query.time_ns("until") or 0,
        timestamps=query.boolean("timestamps"),
        # Docker reads whatever isn't a number, and every negative one, as "all".
        tail=int(tail) if tail.isascii() and tail.isdigit() else None,
        details=query.boolean("details"),
    )


async def _readable(pieces: AsyncIterator[bytes], name: str, multiplexed: bool) -> AsyncIterator[bytes]:
    """The log's pieces; an error on the way becomes the last one, for the status has been sent."""
    try:
        async for piece in pieces:
            yield piece
    except (DaemonError, OSError) as error:
        logger.warning("reading the log of container %s failed: %s", name, error)
        text = f"Error grabbing logs: {error}\n".encode()
        yield struct.pack(">BxxxI", _SYSTEM_ERROR, len(text)) + text if multiplexed else text
