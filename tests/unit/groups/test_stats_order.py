"""Samples reach a follower in the order in which they were asked for, however the answers come."""

from __future__ import annotations

import asyncio

import pytest
from boxrun.container.usage import Usage
from boxrun.supervisor.contract import UsageReply
from boxshipd.containers import stats

ID = "ab" * 32


class Questions:
    """A runtime's end of ``usage`` calls, answered by hand."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[UsageReply]] = []
        self.came = asyncio.Condition()

    async def call(self, *_: object) -> UsageReply:
        async with self.came:
            self.open.append(asyncio.get_running_loop().create_future())
            self.came.notify_all()
        return await self.open[-1]

    async def asked(self, count: int) -> None:
        async with self.came:
            await self.came.wait_for(lambda: len(self.open) >= count)

    def answer(self, number: int, second: int) -> None:
        usage = Usage(id=ID, read_at=second * 1_000_000_000)
        self.open[number].set_result(UsageReply(cgroup_version="2", system_time=1, processors=1, containers=(usage,)))


@pytest.fixture
def container(container):
    container.state.running = True
    return container


async def test_an_answer_that_comes_late_is_not_shown_after_a_later_one(container, monkeypatch):
    monkeypatch.setattr(stats, "PERIOD", 0.02)
    monkeypatch.setattr(stats, "_FRESH", 0.0)
    questions = Questions()
    collector = stats.Collector(questions)
    follower = collector.follow(container)
    await questions.asked(2)
    questions.answer(1, second=20)
    assert (await anext(follower)).read.startswith("1970-01-01T00:00:20")
    questions.answer(0, second=10)
    await questions.asked(3)
    questions.answer(2, second=30)
    second = await anext(follower)
    assert second.read.startswith("1970-01-01T00:00:30")
    assert second.preread.startswith("1970-01-01T00:00:20")
    follower.close()
    collector.close()


async def test_the_first_sample_is_not_asked_for_twice(container, monkeypatch):
    monkeypatch.setattr(stats, "PERIOD", 0.01)
    monkeypatch.setattr(stats, "_FRESH", 30.0)
    questions = Questions()
    collector = stats.Collector(questions)
    follower = collector.follow(container)
    await questions.asked(1)
    rounds = asyncio.create_task(questions.asked(2))
    done, _ = await asyncio.wait([rounds], timeout=0.1)
    assert not done
    rounds.cancel()
    questions.answer(0, second=1)
    assert (await anext(follower)).read.startswith("1970-01-01T00:00:01")
    follower.close()
    collector.close()
