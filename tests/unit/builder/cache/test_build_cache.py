"""The cache over a real store: what outlives a restart, a crash, an image's removal, and what is removed with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys

import pytest
from boxshipd.builder.graph import Graph
from boxshipd.builder.results import Snapshot
from boxshipd.images.digest import chain_ids
from boxshipd.images.record import Layer
from support.solving import AROUND, builder, context, step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")


def chain_of(graph: Graph, *names: str):
    top = step(graph, names[0])
    for name in names[1:]:
        top = step(graph, name, top)
    return top


async def test_what_was_built_is_there_after_a_restart(tmp_path):
    graph = Graph()
    top = chain_of(graph, "a", "b", "c")
    async with builder(tmp_path) as b:
        (made,) = await b.run(graph, top)
        before = b.cache.usage()
    async with builder(tmp_path) as b:
        (found,) = await b.run(graph, top)
        assert found == made
        assert b.layers.begun == []
        assert [(each.id, each.parents, each.size) for each in b.cache.usage()] == [
            (each.id, each.parents, each.size) for each in before
        ]
        assert [each.usage_count for each in b.cache.usage()] == [2, 2, 2]
    async with builder(tmp_path) as b:
        assert [each.usage_count for each in b.cache.usage()] == [2, 2, 2]


async def test_records_tell_what_they_are_of(tmp_path):
    graph = Graph()
    top = chain_of(graph, "a", "b")
    async with builder(tmp_path) as b:
        async with b.solver.solve(graph, [top], AROUND, b.told.append):
            first, second = b.cache.usage()
            assert (first.description, first.type, first.parents, first.in_use, first.shared) == (
                "a",
                "regular",
                None,
                True,
                False,
            )
            assert second.parents == [first.id]
            # A file of 100 bytes, and its archive.
            assert 100 < first.size < 1000
        assert not any(each.in_use for each in b.cache.usage())


async def test_a_record_without_its_layer_is_dropped_and_with_it_what_lies_on_it(tmp_path):
    graph = Graph()
    top = chain_of(graph, "a", "b", "c")
    async with builder(tmp_path) as b:
        (made,) = await b.run(graph, top)
    os.unlink(tmp_path / "content/blobs/sha256" / made.layers[1].blob[7:])
    async with builder(tmp_path) as b:
        assert [each.description for each in b.cache.usage()] == ["a"]
        assert b.on_disk() == ({made.layers[0].blob[7:]}, {made.layers[0].chain[7:]})
        await b.run(graph, top)
        assert b.layers.begun == ["b", "c"]
    async with builder(tmp_path) as b:
        assert len(b.cache.usage()) == 3


async def test_a_record_without_its_snapshot_is_dropped(tmp_path):
    graph = Graph()
    top = chain_of(graph, "a", "b")
    async with builder(tmp_path) as b:
        (made,) = await b.run(graph, top)
    shutil.rmtree(tmp_path / "snapshots" / made.layers[1].chain[7:])
    async with builder(tmp_path) as b:
        assert [each.description for each in b.cache.usage()] == ["a"]
        assert b.on_disk()[0] == {made.layers[0].blob[7:]}


async def test_layers_that_are_gone_are_not_recorded(tmp_path):
    diff = "sha256:" + "1" * 64
    gone = Snapshot((Layer(diff, diff, chain_ids([diff])[0], 1),))
    async with builder(tmp_path) as b:
        graph = Graph()
        (made,) = await b.run(graph, step(graph, "uncached"))
        assert b.cache.record("key", [gone], description="") is None
        assert b.cache.hold([made, gone]) is None
        assert b.cache.find("key") is None


async def test_many_steps_share_one_synchronisation(tmp_path, monkeypatch):
    graph = Graph()
    top = chain_of(graph, *(f"s{n}" for n in range(20)))
    async with builder(tmp_path) as b:
        synced: list[int] = []
        real = b.images.stores.snapshots.sync
        monkeypatch.setattr(b.images.stores.snapshots, "sync", lambda: (synced.append(1), real())[1])
        await b.run(graph, top)
        await b.cache.settle()
        assert len(synced) <= 2
        assert len(await b.store.read(lambda connection: connection.execute("SELECT id FROM build_cache").fetchall())) == 20


async def test_a_replaced_outcome_takes_its_layers_along(tmp_path):
    graph = Graph()
    async with builder(tmp_path) as b:
        await b.run(graph, step(graph, "uncached"))
        async with b.solver.solve(graph, [step(graph, "uncached"), step(graph, "uncached-2")], AROUND, b.told.append) as made:
            for snapshot in made:
                b.cache.record("key", [snapshot], description="").release()
        assert b.cache.find("key").snapshots == (made[1],)
    async with builder(tmp_path) as b:
        assert b.on_disk() == ({made[1].layers[0].blob[7:]}, {made[1].layers[0].chain[7:]})


KILLED = """
import asyncio, os, sys
from pathlib import Path
from boxshipd.builder.graph import Graph
from support.solving import builder, step

async def main():
    graph = Graph()
    first = step(graph, "b", step(graph, "a"))
    top = step(graph, "d", step(graph, "c", first))
    async with builder(Path(sys.argv[1])) as b:
        if sys.argv[2] != "early":
            await b.run(graph, first)
            await b.cache.settle()
        if sys.argv[2] != "settled":
            b.layers.hold("d")
            running = asyncio.create_task(b.run(graph, top))
            await b.layers.begins("d")
        os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@pytest.mark.parametrize(("moment", "known"), [("early", 0), ("settled", 2), ("later", 2)])
async def test_killed_it_has_what_was_settled_and_nothing_else(tmp_path, moment, known):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), moment, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert await process.wait() == -signal.SIGKILL
    async with builder(tmp_path) as b:
        assert len(b.cache.usage()) == known
        assert [len(there) for there in b.on_disk()] == [known, known]
        graph = Graph()
        await b.run(graph, chain_of(graph, "a", "b", "c", "d"))
        assert b.layers.begun == ["a", "b", "c", "d"][known:]


async def test_a_cancelled_build_leaves_only_what_is_on_record(tmp_path):
    graph = Graph()
    top = step(graph, "fail", step(graph, "a", context(graph)))
    async with builder(tmp_path) as b:
        with pytest.raises(Exception, match="fail has failed"):
            await b.run(graph, top)
        assert [each.description for each in b.cache.usage()] == ["a"]
    async with builder(tmp_path) as b:
        assert [len(there) for there in b.on_disk()] == [1, 1]
