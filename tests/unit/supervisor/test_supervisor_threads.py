"""Descriptors that threads open or were given, when whoever wanted them has gone."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxrun.supervisor.threads import opened, to_its_end


def end_of_pipe() -> tuple[int, int]:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    return reader, writer


async def closed(reader: int) -> None:
    """Wait until nobody has the pipe's other end."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(reader, over.set)
    try:
        async with asyncio.timeout(10):
            await over.wait()
        assert os.read(reader, 1) == b""
    finally:
        loop.remove_reader(reader)
        os.close(reader)


async def test_a_descriptor_that_comes_too_late_is_closed() -> None:
    reader, writer = end_of_pipe()
    begun, go_on = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        go_on.wait()
        return writer

    asking = asyncio.create_task(opened(work))
    await asyncio.to_thread(begun.wait)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await closed(reader)


async def test_a_descriptor_that_comes_in_time_is_the_callers() -> None:
    reader, writer = end_of_pipe()
    assert await opened(lambda: writer) == writer
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(writer)
    os.close(reader)


async def test_work_that_has_not_begun_is_done_all_the_same() -> None:
    """It is to close what it was given."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    reader, writer = end_of_pipe()
    go_on = threading.Event()
    busy = asyncio.create_task(asyncio.to_thread(go_on.wait))
    asking = asyncio.create_task(to_its_end(os.close, writer))
    done, _ = await asyncio.wait([asking], timeout=0.01)
    assert not done
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    go_on.set()
    await closed(reader)
    assert await busy


async def test_what_goes_wrong_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        await opened(os.open, "/none", os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        await to_its_end(os.stat, "/none")
