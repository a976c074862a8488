"""Events: published, remembered, filtered, followed."""

from __future__ import annotations

import asyncio
import time

import pytest
from boxshipd import events as module
from boxshipd.errors import InvalidParameter
from boxshipd.events import Events
from boxshipd.filters import Filters
from msgspec import UNSET


async def _take(subscription, count):
    async with asyncio.timeout(5):
        return [await anext(subscription) for _ in range(count)]


async def test_followers_get_what_happens_after_they_came():
    events = Events()
    events.publish("container", "create", "early")
    subscription = events.subscribe()
    events.publish("container", "start", "c1", {"name": "n", "image": "i"})
    (message,) = await _take(subscription, 1)
    assert (message.type, message.action, message.actor.id) == ("container", "start", "c1")
    assert (message.status, message.id, message.from_, message.scope) == ("start", "c1", "i", "local")
    assert message.time == message.time_nano // 10**9
    await subscription.aclose()
    assert events.followers == 0


async def test_other_types_have_no_old_fields():
    message = Events().publish("network", "create", "n1")
    assert (message.status, message.id, message.from_) == (UNSET, UNSET, UNSET)


async def test_since_replays_and_until_ends():
    events = Events()
    begin = time.time()
    for number in range(3):
        events.publish("container", "start", str(number))
    seen = [message.actor.id async for message in events.subscribe(None, begin, time.time())]
    assert seen == ["0", "1", "2"]
    assert [m async for m in events.subscribe(None, time.time() + 1, time.time())] == []


async def test_until_in_the_future_is_waited_for():
    events = Events()
    subscription = events.subscribe(until=time.time() + 0.05)
    events.publish("container", "start", "1")
    assert [message.actor.id async for message in subscription] == ["1"]
    assert events.followers == 0


async def test_history_and_future_join_without_gap_or_repetition():
    events = Events()
    begin = time.time()
    events.publish("container", "start", "past")
    subscription = events.subscribe(since=begin)
    events.publish("container", "start", "future")
    assert [m.actor.id for m in await _take(subscription, 2)] == ["past", "future"]
    await subscription.aclose()


async def test_closing_ends_an_iteration_that_waits():
    events = Events()
    subscription = events.subscribe()
    waiting = asyncio.create_task(anext(subscription, None))
    await asyncio.sleep(0)
    await subscription.aclose()
    assert await waiting is None


async def test_a_follower_that_never_reads_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "_BACKLOG", 10)
    events = Events()
    subscription = events.subscribe()
    for number in range(20):
        events.publish("container", "start", str(number))
    assert len([m async for m in subscription]) == 10
    assert events.followers == 0


async def test_times_grow_strictly():
    events = Events()
    times = [events.publish("daemon", "reload", "x").time_nano for _ in range(100)]
    assert times == sorted(set(times))


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"type": ["image"]}, ["sha256:1"]),
        ({"event": ["die"]}, ["c2"]),
        ({"event": ["exec_create"]}, ["c3"]),
        ({"container": ["c1"]}, ["c1"]),
        ({"container": ["two"]}, ["c2"]),
        ({"label": ["tier=web"]}, ["c1"]),
        ({"image": ["busybox"]}, ["c1", "sha256:1"]),
        ({"image": ["busybox:latest"], "type": ["container"]}, ["c1"]),
        ({"scope": ["swarm"]}, []),
    ],
)
async def test_filters_select(filters, expected):
    events = Events()
    begin = time.time()
    events.publish("container", "start", "c1", {"name": "one", "image": "busybox:latest", "tier": "web"})
    events.publish("container", "die", "c2", {"name": "two", "image": "alpine"})
    events.publish("container", "exec_create: sh", "c3", {"name": "three", "image": "alpine"})
    events.publish("image", "tag", "sha256:1", {"name": "busybox:latest"})
    seen = [m.actor.id async for m in events.subscribe(Filters(filters), begin, time.time())]
    assert seen == expected


async def test_unknown_filters_are_refused():
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        Events().subscribe(Filters({"colour": ["red"]}))
