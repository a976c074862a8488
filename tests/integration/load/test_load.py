"""The load's short form: a few clients for some seconds, every answer checked, and nothing left."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import image, load, remains
from benchmarks.engine import boxship
from benchmarks.trend import trend

CLIENTS, SECONDS = 20, 6
OPERATIONS = {"create", "start", "exec create", "exec start", "exec inspect", "attach", "logs", "logs, followed", "stats", "events"} | {
    "events, followed", "inspect", "list", "wait", "remove"
}  # fmt: skip


@pytest.mark.timeout(300)
def test_under_load_no_answer_is_wrong_and_nothing_is_left():
    with boxship() as engine:

        async def loaded() -> load.Outcome:
            await image.load(engine)
            return await load.run(engine, CLIENTS, SECONDS)

        outcome = asyncio.run(loaded())
    assert outcome.faults() == []
    assert outcome.operations.keys() >= OPERATIONS
    assert set(outcome.scenarios) == {"brief", "foreground", "flood", "session", "visit"}
    assert outcome.at_rest.keys() == set(load.LASTING)
    assert remains.settled(lambda: remains.of_engine(engine.home.name), 10) == []


def test_a_leak_is_a_slope_and_scatter_is_none():
    moments = [float(at) for at in range(60)]
    scattered = [60.0 + 20 * (at * 7 % 5) for at in range(60)]
    leaking = [value + at for at, value in enumerate(scattered)]
    assert load.grown({"boxshipd": {"rss": trend(moments, scattered), "fds": trend(moments, scattered)}}) == []
    (memory, descriptors) = load.grown({"boxshipd": {"rss": trend(moments, leaking), "fds": trend(moments, leaking)}})
    assert memory.startswith("boxshipd: rss grew by ")
    assert descriptors.startswith("boxshipd: fds grew by ")


def test_wrong_answers_and_errors_of_the_engine_are_faults():
    outcome = load.Outcome(
        1, 1.0, statuses={200: 5, 500: 1}, wrong=["brief: wait: 1 instead of 0"], at_rest={"boxshipd": (20, 40)}
    )
    assert outcome.faults() == [
        "brief: wait: 1 instead of 0",
        "status 500: 1 times",
        "boxshipd: 20 descriptors before the load, 40 after it",
    ]
