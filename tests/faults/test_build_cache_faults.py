"""A build killed at every step of it, and disks that are full: what the cache has afterwards is whole, and all there is.

A step is a system call that makes something durable (``support.steps``).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.graph import Graph
from support.solving import Builder, builder, step
from support.steps import killed_at

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace"),
]

HELPER = """
import asyncio, os, sys
from pathlib import Path
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.graph import Graph
from boxshipd.filters import Filters
from support.solving import builder, step

def fill(directory, check):
    with open(os.path.join(directory, "seed"), "w") as file:
        file.write("seed")

async def build(root):
    graph = Graph()
    top = step(graph, "c", step(graph, "b", step(graph, "a")))
    async with builder(Path(root)) as b:
        await b.run(graph, top)
        await b.cache.settle()
        async with b.cache.mounts.mount("m", "locked", fill=fill):
            pass
        await b.cache.prune(PruneOptions(filters=Filters({"description": ["c"]})))
        await b.run(graph, top)
        await b.cache.prune(PruneOptions(filters=Filters({"type": ["exec.cachemount"]})))

for line in sys.stdin:
    root = line.strip()
    pid = os.fork()
    if not pid:
        open(root + "/go").read()
        asyncio.run(build(root))
        os._exit(0)
    print(pid, flush=True)
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture
def helper() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        yield process
        process.stdin.close()


def killed(helper: subprocess.Popen[str], root: Path, call: str, number: int) -> bool:
    """Have the helper build, and be killed at a step; False where it had no more of them."""
    os.mkfifo(root / "go")
    helper.stdin.write(f"{root}\n")
    helper.stdin.flush()
    pid = int(helper.stdout.readline())
    with killed_at(pid, call, number):
        (root / "go").write_text("go")
        status = os.waitstatus_to_exitcode(int(helper.stdout.readline()))
    (root / "go").unlink()
    assert status in (0, -signal.SIGKILL)
    return status != 0


async def look(root: Path) -> list[str]:
    """Open the cache again: what is on the disk is what is on record, which can be used; what was recorded."""
    async with builder(root) as b:
        usage = b.cache.usage()
        known = [each.description for each in usage]
        steps = [name for name in known if len(name) == 1]
        assert steps == ["a", "b", "c"][: len(steps)]
        assert [len(there) for there in b.on_disk()] == [len(steps)] * 2
        assert os.listdir(root / "content/ingest") == []
        mounts = os.listdir(root / "build/mounts")
        assert mounts == [each.id for each in usage if each.type == "exec.cachemount"]
        for name in mounts:
            assert (root / "build/mounts" / name / "seed").read_text() == "seed"
        graph = Graph()
        (made,) = await b.run(graph, step(graph, "c", step(graph, "b", step(graph, "a"))))
        assert b.layers.begun == ["a", "b", "c"][len(steps) :]
        for layer, name in zip(made.layers, "abc", strict=True):
            assert (root / "snapshots" / layer.chain[7:] / "fs" / name).read_text() == name * 100
        return known


@pytest.mark.timeout(600)
@pytest.mark.parametrize("call", ["rename", "fsync", "syncfs", "fdatasync", "unlink", "unlinkat", "mkdir", "rmdir"])
async def test_killed_at_every_step(tmp_path, helper, call):
    seen = set()
    for number in range(1, 60):
        root = tmp_path / f"{call}-{number}"
        root.mkdir()
        again = killed(helper, root, call, number)
        seen.add(tuple(await look(root)))
        if not again:
            break
    else:
        pytest.fail("it never came to its end")
    assert () in seen or call in ("rmdir", "unlinkat", "fsync", "fdatasync", "syncfs")
    assert ("a", "b", "c") in seen


@pytest.fixture
def small(tmp_path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


async def test_a_full_disk_fails_the_step_and_leaves_nothing_of_it(small):
    graph = Graph()
    first = step(graph, "a")
    top = step(graph, "b", first)
    async with builder(small) as b:
        await b.run(graph, first)
        await b.cache.settle()
        with ballast(small):
            with pytest.raises(OSError, match="No space left"):
                await b.run(graph, big(graph, first))
            assert_whole(b, small, ["a"])
        await b.run(graph, top)
    async with builder(small) as b:
        assert_whole(b, small, ["a", "b"])
        (made,) = await b.run(graph, top)
        assert b.layers.begun == []
        assert len(made.layers) == 2
        with ballast(small):
            # What makes room again needs none.
            assert len((await b.cache.prune(PruneOptions())).caches_deleted) == 2
    async with builder(small) as b:
        assert_whole(b, small, [])


def big(graph: Graph, below):
    """A step that makes more than there is room for."""
    return step(graph, "b" * 200, below)


def assert_whole(b: Builder, root: Path, names: list[str]) -> None:
    assert [each.description for each in b.cache.usage()] == names
    assert [len(there) for there in b.on_disk()] == [len(names)] * 2
    assert os.listdir(root / "content/ingest") == []


class ballast:  # noqa: N801 - reads as a function does
    """Fills a disk to the last byte inside the block."""

    def __init__(self, root: Path) -> None:
        self._path = root / "ballast"

    def __enter__(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(b"x" * size)
                except OSError:
                    size //= 2

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


async def test_a_mount_that_cannot_be_filled_leaves_nothing(small):
    def fill(directory: str, check: object) -> None:
        with open(os.path.join(directory, "x"), "wb") as file:
            file.write(os.urandom(20 << 20))

    async with builder(small) as b:
        with pytest.raises(OSError, match="No space left"):
            async with b.cache.mounts.mount("m", "shared", fill=fill):
                pass
        assert os.listdir(small / "build/mounts") == []
        assert b.cache.usage() == []
        async with b.cache.mounts.mount("m", "shared") as directory:
            assert os.listdir(directory) == []
