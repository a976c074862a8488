"""What a build tells on its way to its client: in order, and no more of it waiting than there is room for."""

import asyncio

import pytest
from boxship.types.build import BuildLog, BuildProgress
from boxshipd.builder import feed as module
from boxshipd.builder.feed import Feed


def log(vertex: str, data: bytes) -> BuildProgress:
    return BuildProgress(logs=(BuildLog(vertex=vertex, stream=1, data=data),))


async def test_everything_is_told_in_order_until_the_work_ends():
    feed: Feed[str] = Feed()

    async def work() -> None:
        feed.tell("first")
        await asyncio.sleep(0)
        feed.progress(log("a", b"1"))
        feed.tell("last")

    told = [what async for what in feed.follow(asyncio.ensure_future(work()))]
    assert told == ["first", log("a", b"1"), "last"]


async def test_who_stops_listening_ends_the_work():
    feed: Feed[str] = Feed()
    ended = asyncio.Event()

    async def work() -> None:
        feed.tell("begun")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.ensure_future(work())
    following = feed.follow(task)
    assert await anext(following) == "begun"
    await following.aclose()
    assert ended.is_set()
    assert task.cancelled()


async def test_output_that_nobody_takes_is_clipped_and_that_is_told_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_OVERHEAD", 0)
    monkeypatch.setattr(module, "_WAITING_LIMIT", 10)
    feed: Feed[str] = Feed()
    for number in range(5):
        feed.progress(log("a", b"%d2345" % number))
    feed.progress(log("b", b"other"))
    done = asyncio.get_running_loop().create_future()
    done.set_result(None)
    told = [piece.data for what in [each async for each in feed.follow(done)] for piece in what.logs]
    assert told[:2] == [b"02345", b"12345"]
    assert len(told) == 4
    assert all(b"output clipped" in data for data in told[2:])
    feed.progress(log("a", b"again"))
    assert [what.logs[0].data async for what in feed.follow(done)] == [b"again"]


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
