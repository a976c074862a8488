"""``GET /events``: what happens, as it happens.

Source: Docker Engine API v1.51, SystemEvents.
"""

from __future__ import annotations

import time
from contextlib import aclosing

from aiohttp.web_response import StreamResponse

from boxshipd.api.call import Call
from boxshipd.api.jsonstream import document
from boxshipd.errors import InvalidParameter
from boxshipd.events import Events
from boxshipd.filters import Filters


class EventOperations:
    """Following events."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def stream(self, call: Call) -> StreamResponse:
        """SystemEvents: past events from ``since``, then those to come, until ``until`` or until the client leaves."""
        query = call.query
        since, until = query.time_ns("since"), query.time_ns("until")
        if since is not None and until is not None and until < since:
            raise InvalidParameter(f"`since` time ({query.text('since')}) cannot be after `until` time ({query.text('until')})")
        filters = Filters.parse(query.text("filters"))
        if until is not None and since is None and until < time.time_ns():
            return await call.open_stream("application/json")
        subscription = self._events.subscribe(filters, _seconds(since), _seconds(until))
        hide_image_create = call.version < (1, 46)
        async with aclosing(subscription):
            with call.cancelled_when_lost():
                response = await call.open_stream("application/json")
                async for event in subscription:
                    if hide_image_create and event.type == "image" and event.action == "create":
                        continue
                    await response.write(document(event))
        return response


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
