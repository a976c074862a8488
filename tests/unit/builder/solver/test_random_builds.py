"""Builds of random graphs side by side, some cancelled at some moment, some failing: nothing is held or left in the end."""

from __future__ import annotations

import asyncio
import os
import random

import pytest
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.graph import Graph, Input
from boxshipd.errors import NotFound
from support.solving import Builder, builder, context, step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")


def graph_of(chance: random.Random) -> tuple[Graph, list[Input]]:
    """A graph of which parts come in other builds as well."""
    graph = Graph()
    made = [context(graph, f"c{n}") for n in range(2)]
    for number in range(chance.randrange(4, 14)):
        inputs = chance.sample(made, chance.randrange(1, 3))
        kind = chance.choices(("", "uncached", "fail"), (20, 3, 1))[0]
        made.append(step(graph, f"{kind}{number % 7}", *inputs, ignore_cache=chance.random() < 0.1))
    return graph, chance.sample(made, 2)


async def one(b: Builder, chance: random.Random) -> str:
    """One build, which somebody may end early; how it ended."""
    graph, wanted = graph_of(chance)
    task = asyncio.ensure_future(b.run(graph, *wanted))
    if chance.random() < 0.4:
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    except NotFound:
        return "failed"
    return "done"


@pytest.mark.parametrize("seed", [*range(5), 21])
async def test_nothing_is_held_or_left(tmp_path, seed):
    chance = random.Random(seed)
    async with builder(tmp_path) as b:
        ends = []
        for _ in range(4):
            ends += await asyncio.gather(*(one(b, random.Random(chance.random())) for _ in range(4)))
            if chance.random() < 0.5:
                await b.cache.prune(PruneOptions())
        assert {"done", "cancelled"} <= set(ends)
        assert not [job for job in b.scheduler.jobs() if job.state in ("queued", "running", "waiting")]
        assert {tree.closed for tree in b.contexts.made} == {1}
        assert len(b.layers.begun) == len(b.layers.ended)
        assert not any(record.in_use for record in b.cache.usage())
    async with builder(tmp_path) as b:
        blobs, snapshots = b.on_disk()
        assert not b.cache.usage() or (blobs and snapshots)
        await b.cache.prune(PruneOptions())
        assert b.cache.usage() == []
        assert b.on_disk() == (set(), set())
