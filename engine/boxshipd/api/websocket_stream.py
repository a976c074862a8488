"""Websockets over which the daemon itself sends: logs and events, as long as the client listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from boxshipd.api.call import Call

if TYPE_CHECKING:
    from aiohttp.web_ws import WebSocketResponse


@asynccontextmanager
async def sending(call: Call, protocols: Sequence[str] = ()) -> AsyncIterator[WebSocketResponse]:
    """Accept a websocket and close it in the end; the handler is cancelled when its client goes away before.

    Args:
        call: the request, whose handshake has been checked.
        protocols: the subprotocols there are.
    """
    from aiohttp.web_ws import WebSocketResponse

    response = WebSocketResponse(protocols=protocols, compress=False)
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
        yield response
    finally:
        listener.cancel()
    await response.close()
