"""Streams of JSON documents: events, and the progress of long work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec
from aiohttp.web_response import StreamResponse
from boxship.types.images import ErrorDetail, ProgressMessage

from boxshipd.api.call import Call
from boxshipd.errors import DaemonError

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


def document(value: object, ending: bytes = b"\n") -> bytes:
    """One document of a stream."""
    return _encoder.encode(value) + ending


async def stream_progress(call: Call, messages: AsyncIterator[ProgressMessage]) -> StreamResponse:
    """Answer with what ``messages`` tells, as it comes.

    The status is 200 once there is a first message. An error before it is answered with its own status, one after it as
    the stream's last document, as Docker's clients expect.
    """
    async with closed_afterwards(messages):
        first = await anext(messages, None)
        response = await call.open_stream("application/json")
        if first is None:
            return response
        await response.write(document(first, b"\r\n"))
        try:
            async for message in messages:
                await response.write(document(message, b"\r\n"))
        except DaemonError as error:
            failure = ProgressMessage(error=str(error), error_detail=ErrorDetail(message=str(error)))
            await response.write(document(failure, b"\r\n"))
        return response


@asynccontextmanager
async def closed_afterwards(pieces: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """End a generator at once when its reader is through with it, rather than when it is collected."""
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
