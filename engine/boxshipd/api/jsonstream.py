"""Streams of JSON documents: events, and the progress of long work."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
from aiohttp.web_response import StreamResponse
from boxship.types.images import ErrorDetail, ProgressMessage

from boxshipd.api.call import Call
from boxshipd.errors import DaemonError

_encoder = msgspec.json.Encoder()


def document(value: object, ending: bytes = b"\n") -> bytes:
    """One document of a stream."""
    return _encoder.encode(value) + ending


async def stream_progress(call: Call, messages: AsyncIterator[ProgressMessage]) -> StreamResponse:
    """Answer with what ``messages`` tells, as it comes.

    The status is 200 once there is a first message. An error before it is answered with its own status, one after it as
    the stream's last document, as Docker's clients expect.
    """
    try:
        first = await anext(messages)
    except StopAsyncIteration:
        return await call.open_stream("application/json")
    response = await call.open_stream("application/json")
    await response.write(document(first, b"\r\n"))
    try:
        async for message in messages:
            await response.write(document(message, b"\r\n"))
    except DaemonError as error:
        failure = ProgressMessage(error=str(error), error_detail=ErrorDetail(message=str(error)))
        await response.write(document(failure, b"\r\n"))
    return response
