"""Every test of the bus runs on both event loops, and on both transports where it asks for ``bus``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from boxrun.bus import Channel, Limits, Server, connect_in_process, connect_unix, serve_unix
from support.bus import EchoService


def pytest_asyncio_loop_factories(config, item):
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Bus(NamedTuple):
    """A server with its service, and the way to further channels."""

    service: EchoService
    server: Server
    channel: Channel
    connect: Callable[[], Awaitable[Channel]]
    limits: Limits


LIMITS = Limits(window=64 * 1024, max_frame=1024 * 1024, max_calls=100, keepalive=5, keepalive_timeout=5)


@pytest.fixture(params=["unix", "in_process"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    """A server and a channel to it."""
    service = EchoService()
    path = str(tmp_path / "bus.sock")
    async with AsyncExitStack() as stack:
        if request.param == "unix":
            server = await stack.enter_async_context(serve_unix(path, [service], limits=LIMITS, drain=0))
        else:
            server = Server([service], limits=LIMITS)
            stack.push_async_callback(server.close, 0)

        async def connect() -> Channel:
            if request.param == "unix":
                channel = await connect_unix(path, limits=LIMITS)
            else:
                channel = connect_in_process(server, limits=LIMITS)
            return await stack.enter_async_context(channel)

        yield Bus(service, server, await connect(), connect, LIMITS)
