"""What waits for a slow client is bounded, whatever the pieces are that it comes in."""

from __future__ import annotations

import asyncio

import pytest
from boxship.types.build import BuildLog, BuildProgress
from boxshipd.builder.feed import Feed


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
async def test_what_waits_is_bounded(size):
    feed: Feed[str] = Feed()
    for _ in range(max(200, min(200_000, (100 << 20) // size))):
        feed.progress(BuildProgress(logs=(BuildLog(vertex="v", stream=1, data=b"x" * size),)))
    feed.tell("end")
    work = asyncio.ensure_future(asyncio.sleep(0))
    logs = []
    async for what in feed.follow(work):
        if isinstance(what, BuildProgress):
            logs += [log.data for log in what.logs]
            last = what
    assert b"clipped" in logs[-1]
    assert last.logs
    assert sum(len(log) for log in logs) <= (32 << 20) + 100
    assert len(logs) <= (32 << 20) // 512 + 1


async def test_what_comes_once_there_is_room_is_told_again():
    feed: Feed[str] = Feed()
    piece = BuildProgress(logs=(BuildLog(vertex="v", stream=1, data=b"x" * (20 << 20)),))
    work = asyncio.get_running_loop().create_future()
    feed.progress(piece)
    feed.progress(piece)
    feed.progress(piece)
    told = feed.follow(work)
    assert len((await anext(told)).logs[0].data) == 20 << 20
    feed.progress(BuildProgress(logs=(BuildLog(vertex="v", stream=1, data=b"after"),)))
    assert b"clipped" in (await anext(told)).logs[0].data
    assert (await anext(told)).logs[0].data == b"after"
    work.set_result(None)
    assert [each async for each in told] == []
