"""``GET /events``: what happens, as it happens; over plain HTTP, and over a websocket.

Source: Docker Engine API v1.51, SystemEvents.
"""

from __future__ import annotations

import time
from contextlib import aclosing

from aiohttp.web_response import StreamResponse
from boxship.types.events import EventMessage

from boxshipd.api import websocket
from boxshipd.api.call import Call
from boxshipd.api.jsonstream import document
from boxshipd.api.websocket_stream import sending
from boxshipd.errors import InvalidParameter
from boxshipd.events import FILTERS, Events
from boxshipd.filters import Filters


class EventOperations:
    """Following events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def stream(self, call: Call) -> StreamResponse:
        """SystemEvents: past events from ``since``, then those to come, until ``until`` or until the client leaves."""
        wanted = _wanted(call)
        if wanted is None:
            return await call.open_stream("application/json")
        async with aclosing(self._events.subscribe(*wanted)) as subscription:
            with call.cancelled_when_lost():
                response = await call.open_stream("application/json")
                async for event in subscription:
                    if not _is_hidden(event, call):
                        await response.write(document(event))
        return response

    async def websocket(self, call: Call) -> StreamResponse:
        """SystemEventsWebsocket: the same, each event in a text message."""
        websocket.accept(call.request.headers)
        wanted = _wanted(call)
        async with sending(call) as response:
            if wanted is not None:
                async with aclosing(self._events.subscribe(*wanted)) as subscription:
                    async for event in subscription:
                        if not _is_hidden(event, call):
                            await response.send_str(document(event, b"").decode())
        return response


def _wanted(call: Call) -> tuple[Filters, float | None, float | None] | None:
    """What a request asks for, as ``Events.subscribe`` takes it; None where that can be nothing.

    Raises:
        InvalidParameter: times or filters can't be understood.
    """
    query = call.query
    since, until = query.time_ns("since"), query.time_ns("until")
    if since is not None and until is not None and until < since:
        raise InvalidParameter(f"`since` time ({query.text('since')}) cannot be after `until` time ({query.text('until')})")
    filters = Filters.parse(query.text("filters"))
    filters.validate(FILTERS)
    if until is not None and since is None and until < time.time_ns():
        return None
    return filters, _seconds(since), _seconds(until)


def _is_hidden(event: EventMessage, call: Call) -> bool:
    """Whether a client of this version doesn't know the event."""
    return call.version < (1, 46) and event.type == "image" and event.action == "create"


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
