"""Freezing a container against processes on their way into it."""

from __future__ import annotations

import asyncio

import pytest
from boxrun.supervisor.admission import GroupLock


class Seen(list[str]):
    """What happened, in order."""


async def enter(lock: GroupLock, seen: Seen, name: str, leave: asyncio.Event) -> None:
    async with lock.entering():
        seen.append(f"{name} in")
        await leave.wait()
        seen.append(f"{name} out")


async def alone(lock: GroupLock, seen: Seen, leave: asyncio.Event) -> None:
    async with lock:
        seen.append("alone in")
        await leave.wait()
        seen.append("alone out")


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_any_number_enter_at_a_time():
    lock, seen, leave = GroupLock(), Seen(), asyncio.Event()
    tasks = [asyncio.create_task(enter(lock, seen, name, leave)) for name in "ab"]
    await settle()
    assert seen == ["a in", "b in"]
    leave.set()
    await asyncio.gather(*tasks)


async def test_who_is_alone_waits_for_those_inside_and_keeps_others_out():
    lock, seen, leave, done = GroupLock(), Seen(), asyncio.Event(), asyncio.Event()
    first = asyncio.create_task(enter(lock, seen, "a", leave))
    await settle()
    freeze = asyncio.create_task(alone(lock, seen, done))
    await settle()
    second = asyncio.create_task(enter(lock, seen, "b", leave))
    await settle()
    assert seen == ["a in"]
    leave.set()
    await settle()
    assert seen == ["a in", "a out", "alone in"]
    done.set()
    await asyncio.gather(first, freeze, second)
    assert seen == ["a in", "a out", "alone in", "alone out", "b in", "b out"]


@pytest.mark.parametrize("whose", ["alone", "entering"])
async def test_who_gives_up_waiting_holds_nothing(whose):
    lock, seen, leave, done = GroupLock(), Seen(), asyncio.Event(), asyncio.Event()
    if whose == "alone":
        holder = asyncio.create_task(enter(lock, seen, "a", leave))
        await settle()
        waiting = asyncio.create_task(alone(lock, seen, done))
    else:
        holder = asyncio.create_task(alone(lock, seen, leave))
        await settle()
        waiting = asyncio.create_task(enter(lock, seen, "b", done))
    await settle()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    leave.set()
    done.set()
    await holder
    async with asyncio.timeout(5):
        await alone(lock, seen, done)
        await enter(lock, seen, "c", done)
