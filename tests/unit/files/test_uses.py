"""Who has a container's files open, and how they are made to let go."""

import asyncio

import pytest
from boxshipd.errors import Conflict
from boxshipd.files.uses import Uses


async def user(uses, began, until):
    async with uses.hold("c", "copy x"):
        began.set()
        await until.wait()


async def test_a_start_waits_for_a_copy():
    uses, began, until = Uses(), asyncio.Event(), asyncio.Event()
    copying = asyncio.create_task(user(uses, began, until))
    await began.wait()
    start = asyncio.create_task(uses.vacate("c"))
    await asyncio.sleep(0)
    assert not start.done()
    until.set()
    await start
    await copying


async def test_a_copy_that_takes_too_long_is_ended_and_told():
    uses, began = Uses(), asyncio.Event()
    copying = asyncio.create_task(user(uses, began, asyncio.Event()))
    await began.wait()
    await uses.vacate("c", 0)
    with pytest.raises(Conflict, match="copy x was ended: the container is being started or removed"):
        await copying


async def test_a_clients_own_end_is_not_told_as_ours():
    uses, began = Uses(), asyncio.Event()
    copying = asyncio.create_task(user(uses, began, asyncio.Event()))
    await began.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await uses.vacate("c")


async def test_others_are_left_alone():
    uses, began, until = Uses(), asyncio.Event(), asyncio.Event()
    copying = asyncio.create_task(user(uses, began, until))
    await began.wait()
    await uses.vacate("another", 0)
    assert not copying.done()
    await uses.close()
    with pytest.raises(Conflict):
        await copying
