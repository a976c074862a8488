"""Pruning a real cache, what it removes by itself, and the directories of cache mounts."""

from __future__ import annotations

import asyncio
import contextlib
import os

import pytest
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.graph import Graph
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters
from boxshipd.images.workers import Cancelled
from support.solving import AROUND, builder, step, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")


async def test_prune_removes_all_that_nobody_uses(tmp_path):
    graph = Graph()
    kept = step(graph, "b", step(graph, "a"))
    step(graph, "c", kept)
    async with builder(tmp_path) as b:
        async with b.solver.solve(graph, [kept], AROUND, b.told.append):
            other = Graph()
            await b.run(other, step(other, "x", step(other, "a")))
            ids = {each.description: each.id for each in b.cache.usage()}
            sizes = {each.description: each.size for each in b.cache.usage()}
            answer = await b.cache.prune(PruneOptions())
            assert (answer.caches_deleted, answer.space_reclaimed) == ([ids["x"]], sizes["x"])
            assert {each.description for each in b.cache.usage()} == {"a", "b"}
        answer = await b.cache.prune(PruneOptions())
        assert answer.caches_deleted == [ids["b"], ids["a"]]
        assert await b.cache.prune(PruneOptions()) == type(answer)(None, 0)
        assert b.on_disk() == (set(), set())
        assert await b.store.read(lambda connection: connection.execute("SELECT * FROM build_layers").fetchall()) == []


async def test_prune_refuses_filters_that_cannot_be(tmp_path):
    async with builder(tmp_path) as b:
        with pytest.raises(InvalidParameter):
            await b.cache.prune(PruneOptions(filters=Filters({"until": ["soon"]})))


async def test_what_is_pruned_before_it_was_recorded_stays_away(tmp_path):
    graph = Graph()
    top = step(graph, "a")
    async with builder(tmp_path) as b:
        await b.run(graph, top)
        await asyncio.gather(b.cache.settle(), b.cache.prune(PruneOptions()))
    async with builder(tmp_path) as b:
        assert b.cache.usage() == []
        assert b.on_disk() == (set(), set())


async def test_too_much_goes_by_itself_after_builds(tmp_path):
    async with builder(tmp_path, [PruneOptions(max_used_space=500)]) as b:
        for name in ("a", "b", "c", "d", "e", "f"):
            graph = Graph()
            await b.run(graph, step(graph, name))
        assert b.cache.usage()[0].size in range(167, 250)
    async with builder(tmp_path) as b:
        assert [each.description for each in b.cache.usage()] == ["e", "f"]
        assert [len(there) for there in b.on_disk()] == [2, 2]


async def test_a_mounts_directory_stays(tmp_path):
    async with builder(tmp_path) as b:
        async with b.cache.mounts.mount("apt", "shared", mode=0o700, uid=7, gid=8) as directory:
            status = os.stat(directory)
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 7, 8)
            make(directory, "x", 100_000)
            assert [(each.type, each.in_use, each.description) for each in b.cache.usage()] == [
                ("exec.cachemount", True, "cached mount apt")
            ]
        await until(lambda: b.cache.usage()[0].size >= 100_000)
    async with builder(tmp_path) as b:
        assert b.cache.usage()[0].size >= 100_000
        async with b.cache.mounts.mount("apt", "locked", mode=0o755) as again:
            assert again == directory
            assert os.listdir(again) == ["x"]
            assert (await b.cache.prune(PruneOptions())).caches_deleted is None
        assert len((await b.cache.prune(PruneOptions())).caches_deleted) == 1
        assert os.listdir(tmp_path / "build/mounts") == []
        async with b.cache.mounts.mount("apt", "shared") as anew:
            assert os.listdir(anew) == []


def make(directory: str, name: str, size: int) -> None:
    with open(os.path.join(directory, name), "wb") as file:
        file.write(b"x" * size)


async def test_who_shares_has_one_and_who_does_not_gets_another(tmp_path):
    async with builder(tmp_path) as b, contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(b.cache.mounts.mount("m", "shared"))
        assert await stack.enter_async_context(b.cache.mounts.mount("m", "shared")) == first
        private = await stack.enter_async_context(b.cache.mounts.mount("m", "private"))
        assert private != first
        assert await stack.enter_async_context(b.cache.mounts.mount("other", "shared")) not in {first, private}
        assert await stack.enter_async_context(b.cache.mounts.mount("m", "private")) not in {first, private}
        assert await stack.enter_async_context(b.cache.mounts.mount("m", "shared")) == first
        assert len({each.id for each in b.cache.usage()}) == 4


async def test_who_locks_waits_for_all_others(tmp_path):
    async with builder(tmp_path) as b:
        order: list[str] = []
        entered = {name: asyncio.Event() for name in ("a", "b")}

        async def locked(name: str, leave: asyncio.Event) -> None:
            async with b.cache.mounts.mount("m", "locked"):
                order.append(name)
                entered[name].set()
                await leave.wait()

        leave = asyncio.Event()
        async with b.cache.mounts.mount("m", "shared"):
            first = asyncio.create_task(locked("a", leave))
            await asyncio.sleep(0)
            assert order == []
        await entered["a"].wait()
        second = asyncio.create_task(locked("b", leave))
        gone = asyncio.create_task(locked("b", leave))
        await asyncio.sleep(0)
        gone.cancel()
        assert order == ["a"]
        leave.set()
        await asyncio.gather(first, second)
        assert order == ["a", "b"]
        assert len(b.cache.usage()) == 1


async def test_a_new_directory_is_filled_first_an_old_one_is_not(tmp_path):
    async with builder(tmp_path) as b:
        for base, expected in (("sha256:1", ["seed"]), ("sha256:1", ["seed", "x"]), ("sha256:2", ["seed"]), ("", [])):
            fill = (lambda directory, check: make(directory, "seed", 1)) if base else None
            async with b.cache.mounts.mount("m", "locked", base=base, fill=fill) as directory:
                assert sorted(os.listdir(directory)) == expected
                make(directory, "x", 1)


async def test_filling_that_fails_or_is_given_up_leaves_nothing(tmp_path):
    def failing(directory: str, check: object) -> None:
        make(directory, "half", 10)
        raise OSError("the disk is full")

    async with builder(tmp_path) as b:
        with pytest.raises(OSError, match="full"):
            async with b.cache.mounts.mount("m", "shared", fill=failing):
                pass
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()

        def endless(directory: str, check) -> None:
            loop.call_soon_threadsafe(begun.set)
            while True:
                check()

        async def never() -> None:
            async with b.cache.mounts.mount("m", "shared", fill=endless):
                pass

        waiting = asyncio.create_task(never())
        await begun.wait()
        waiting.cancel()
        with pytest.raises((asyncio.CancelledError, Cancelled)):
            await waiting
        assert os.listdir(tmp_path / "build/mounts") == []
        async with b.cache.mounts.mount("m", "shared") as directory:
            assert os.listdir(directory) == []


async def test_directories_that_nobody_has_on_record_go_at_the_next_start(tmp_path):
    async with builder(tmp_path) as b:
        async with b.cache.mounts.mount("kept", "shared"):
            pass
        async with b.cache.mounts.mount("lost", "shared") as lost:
            pass
    os.makedirs(tmp_path / "build/mounts/new-one/deep")
    os.rmdir(lost)
    async with builder(tmp_path) as b:
        assert [each.description for each in b.cache.usage()] == ["cached mount kept"]
        assert len(os.listdir(tmp_path / "build/mounts")) == 1
