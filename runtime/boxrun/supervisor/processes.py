"""Waiting for processes that may not be our children."""

from __future__ import annotations

import asyncio
import os


async def process_end(pidfd: int, timeout: float) -> bool:
    """Wait until the process that ``pidfd`` refers to has ended, at most ``timeout`` seconds; whether that came true.

    The descriptor is closed.
    """
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        async with asyncio.timeout(timeout):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    return True
