"""A container's log, over plain HTTP as Docker's clients read it, and over a websocket as ours does.

Source: Docker Engine API v1.51, ContainerLogs.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator

from aiohttp.web_response import StreamResponse
from msgspec.structs import replace

from boxshipd.api import websocket
from boxshipd.api.attach import MULTIPLEXED, RAW
from boxshipd.api.call import Call
from boxshipd.api.jsonstream import closed_afterwards
from boxshipd.api.query import Query
from boxshipd.api.websocket_stream import sending
from boxshipd.containers.service import Containers
from boxshipd.errors import DaemonError, InvalidParameter
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
        multiplexed = websocket.wants_multiplexed(call.request.headers)
        if multiplexed and call.query.boolean("positions"):
            # A reader that wants to know where it is gets frames of any container.
            options = replace(options, positions=True, after=call.query.text("after"))
        else:
            multiplexed = multiplexed and not source.terminal
        async with (
            open_logs(source, options, multiplexed=multiplexed) as pieces,
            sending(call, (websocket.MULTIPLEXED,)) as response,
            closed_afterwards(_readable(pieces, call.name, multiplexed)) as readable,
        ):
            async for piece in readable:
                await response.send_bytes(piece)
        return response

    async def _source(self, name: str) -> LogSource:
        return await self._containers.log_source(name)


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
