"""Jobs: order by key, limits by kind, deadlines, cancellation, listing."""

from __future__ import annotations

import asyncio

import pytest
from boxshipd.errors import Conflict, Unavailable
from boxshipd.scheduler.jobs import Scheduler


class Gate:
    """Work that says when it has begun and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._doors: dict[str, asyncio.Event] = {}

    def work(self, name: str):
        self._doors[name] = asyncio.Event()

        async def run(_):
            self.begun.append(name)
            await self._doors[name].wait()
            return name

        return run

    def open(self, name: str) -> None:
        self._doors[name].set()


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_jobs_of_one_key_run_in_order_and_of_others_meanwhile():
    scheduler, gate = Scheduler({}), Gate()
    tasks = [scheduler.spawn("start", key, gate.work(name)) for key, name in (("a", "a1"), ("a", "a2"), ("b", "b1"))]
    await _turns()
    assert gate.begun == ["a1", "b1"]
    gate.open("a1")
    await tasks[0]
    await _turns()
    assert gate.begun == ["a1", "b1", "a2"]
    gate.open("a2")
    gate.open("b1")
    assert await asyncio.gather(*tasks) == ["a1", "a2", "b1"]


async def test_a_kind_has_its_limit_and_another_kind_goes_on():
    scheduler, gate = Scheduler({"pull": 2}), Gate()
    tasks = [scheduler.spawn("pull", f"p{n}", gate.work(f"p{n}")) for n in range(3)]
    tasks.append(scheduler.spawn("start", "s", gate.work("s")))
    await _turns()
    assert gate.begun == ["p0", "p1", "s"]
    for name in ("p0", "p1", "p2", "s"):
        gate.open(name)
    await asyncio.gather(*tasks)
    assert gate.begun[-1] == "p2"


async def test_a_job_waiting_for_its_key_holds_no_place():
    scheduler, gate = Scheduler({"start": 1}), Gate()
    first = scheduler.spawn("stop", "a", gate.work("first"))
    blocked = scheduler.spawn("start", "a", gate.work("blocked"))
    other = scheduler.spawn("start", "b", gate.work("other"))
    await _turns()
    assert gate.begun == ["first", "other"]
    for name in ("first", "blocked", "other"):
        gate.open(name)
    await asyncio.gather(first, blocked, other)


async def test_released_lets_others_in_and_comes_back():
    scheduler = Scheduler({"stop": 1})
    order = []
    waited = asyncio.Event()

    async def stop(job):
        order.append("stop begins")
        async with job.released():
            await waited.wait()
        order.append("stop goes on")

    async def kill(_):
        order.append("kill")
        waited.set()

    await asyncio.gather(scheduler.run("stop", "a", stop), scheduler.run("kill", "a", kill))
    assert order == ["stop begins", "kill", "stop goes on"]


async def test_a_released_job_that_is_cancelled_leaves_the_key_free():
    scheduler = Scheduler({"stop": 1})
    released = asyncio.Event()

    async def stop(job):
        async with job.released():
            released.set()
            await asyncio.Event().wait()

    task = scheduler.spawn("stop", "a", stop)
    await released.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    async def answer(_):
        return 1

    assert await scheduler.run("stop", "a", answer) == 1
    assert scheduler.jobs()[0].state == "cancelled"


async def test_a_caller_that_leaves_does_not_end_the_job():
    scheduler, gate = Scheduler({}), Gate()
    caller = asyncio.create_task(scheduler.run("start", "a", gate.work("x")))
    await _turns()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert [job.state for job in scheduler.jobs()] == ["running"]
    gate.open("x")
    await _turns()
    assert [job.state for job in scheduler.jobs()] == ["done"]


async def test_a_cancellable_job_ends_with_its_caller():
    scheduler, gate = Scheduler({}), Gate()
    caller = asyncio.create_task(scheduler.run("pull", "a", gate.work("x"), cancellable=True))
    await _turns()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert [job.state for job in scheduler.jobs()] == ["cancelled"]


async def test_a_deadline_ends_a_job_and_names_it():
    scheduler, gate = Scheduler({}), Gate()
    with pytest.raises(Unavailable, match=r"pull image: not done within 0\.01 s"):
        await scheduler.run("pull", "image", gate.work("x"), deadline=0.01)
    assert scheduler.jobs()[0].state == "failed"


async def test_a_timeout_of_the_work_itself_is_not_the_deadline():
    async def work(_):
        raise TimeoutError("inner")

    with pytest.raises(TimeoutError, match="inner"):
        await Scheduler({}).run("x", "y", work, deadline=10)


async def test_failures_are_raised_and_listed():
    async def work(_):
        raise KeyError("broken")

    scheduler = Scheduler({})
    with pytest.raises(KeyError):
        await scheduler.run("start", "a", work)
    (job,) = scheduler.jobs()
    assert (job.kind, job.key, job.state, job.error) == ("start", "a", "failed", "'broken'")
    assert job.created <= job.started <= job.finished


async def test_a_queued_job_can_be_cancelled_by_its_number():
    scheduler, gate = Scheduler({}), Gate()
    first = scheduler.spawn("start", "a", gate.work("first"))
    second = scheduler.spawn("start", "a", gate.work("second"))
    await _turns()
    queued = next(job for job in scheduler.jobs() if job.state == "queued")
    scheduler.cancel(queued.id)
    await asyncio.gather(second, return_exceptions=True)
    assert gate.begun == ["first"]
    gate.open("first")
    await first
    with pytest.raises(Conflict, match="is not under way"):
        scheduler.cancel(queued.id)


async def test_a_job_cancelled_before_its_first_step_is_no_longer_listed_as_queued():
    scheduler, gate = Scheduler({}), Gate()
    task = scheduler.spawn("start", "a", gate.work("a"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [(job.key, job.state) for job in scheduler.jobs()] == [("a", "cancelled")]
    assert gate.begun == []


async def test_closing_waits_then_cancels_and_takes_no_more():
    scheduler, gate = Scheduler({}), Gate()
    quick, stuck = scheduler.spawn("a", "", gate.work("quick")), scheduler.spawn("b", "", gate.work("stuck"))
    await _turns()
    gate.open("quick")
    await scheduler.close(0.01)
    assert await quick == "quick"
    assert stuck.cancelled()
    with pytest.raises(Unavailable, match="shutting down"):
        scheduler.spawn("a", "", gate.work("late"))
