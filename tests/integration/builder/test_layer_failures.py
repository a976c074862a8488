"""Layers that can't be made whole leave nothing."""

import os
import random
import subprocess
from collections.abc import Callable

import pytest
from boxshipd.builder.graph import Copy, Files
from boxshipd.builder.results import Snapshot
from boxshipd.errors import InternalError
from boxshipd.images.content import BlobWriter
from boxshipd.images.layer_compressor import LayerCompressor
from support.archives import member
from support.build_files import Bench, work

RANDOM = random.Random(3).randbytes(4 << 20)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], check=True, timeout=30)
    yield str(place)
    subprocess.run(["umount", place], check=True, timeout=30)


def left(bench: Bench) -> list[str]:
    """What is neither a blob nor a snapshot, and shouldn't be there."""
    return [*os.listdir(f"{bench.stores.content.root}/ingest"), *os.listdir(bench.stores.snapshots.root)]


def compress(directory: str, times: int, after: Callable[[], None]) -> None:
    with BlobWriter(directory) as writer, LayerCompressor(writer) as archive:
        for _ in range(times):
            archive.write(RANDOM)
        after()
        archive.finish()


def test_a_full_disk_ends_a_layer(small_disk):
    with pytest.raises(OSError, match="No space left"):
        compress(small_disk, 50, lambda: None)
    with pytest.raises(OSError, match="No space left"):
        compress(small_disk, 1, lambda: None)
    assert os.listdir(small_disk) == []


def test_a_layer_that_is_given_up_is_nothing(tmp_path):
    def give_up() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        compress(str(tmp_path), 2, give_up)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("calls", [1, 3, 6, 9])
def test_a_copy_that_is_given_up_leaves_nothing(bench, calls):
    class GivenUpError(Exception):
        pass

    count = 0

    def check():
        nonlocal count
        count += 1
        if count == calls:
            raise GivenUpError

    context = bench.context((member("a"), RANDOM), (member("b"), RANDOM), (member("c"), b""))
    op = Files(actions=(Copy(input=0, sources=("/",), destination="/"),), scratch=True)
    with pytest.raises(GivenUpError):
        bench.executor._make(op, work(op, [context]), check)
    assert left(bench) == []


async def test_a_copy_onto_a_full_disk_says_so(bench, small_disk):
    context = bench.context((member("a"), RANDOM))
    bench.stores.snapshots.root = small_disk
    with pytest.raises(InternalError, match="No space left"):
        await bench.copy(context, "a", "/a", onto=Snapshot())
    assert os.listdir(small_disk) == []
