import asyncio
import os
import shutil

import pytest
from boxshipd.errors import NotFound
from boxshipd.images.errors import HostileOrBroken
from support.archives import SourceImage, chunks, docker_archive, files, oci_archive


async def load(images, archive: bytes) -> None:
    async for _ in images.load(chunks(archive)):
        pass


async def test_an_acknowledged_image_outlives_a_daemon_that_was_killed(engine, tmp_path):
    source = SourceImage([files(a=b"1"), files(b=b"2")], ["docker.io/library/kept:1"], "gzip")
    async with engine.open() as images:
        await load(images, oci_archive(source))
        before = await images.inspect("kept:1")
        # What a kill leaves: the files as they are at this moment, nothing closed.
        engine.root = str(shutil.copytree(engine.root, tmp_path.parent / f"{tmp_path.name}-copy", symlinks=True))
    async with engine.open() as images:
        after = await images.inspect("kept:1")
        assert (after.id, after.repo_tags, after.size, after.metadata) == (before.id, ["kept:1"], 2, before.metadata)
        assert os.path.exists((await images.resolve("kept:1")).layers[0] + "/b")


async def test_what_a_crash_has_left_is_removed_at_the_next_start(engine):
    async with engine.open() as images:
        await load(images, docker_archive(SourceImage([files(a=b"1")], ["kept:1"])))
    before = engine.left()
    for path in ("content/ingest/tmpx", "content/blobs/sha256/" + "0" * 64, "content/blobs/sha512/" + "0" * 128):
        with open(os.path.join(engine.root, path), "wb") as file:
            file.write(b"half a blob")
    for path in ("snapshots/unpacking-x/fs/a/b", "snapshots/removing-y/fs", "snapshots/" + "0" * 64 + "/fs/deep"):
        os.makedirs(os.path.join(engine.root, path))
    async with engine.open() as images:
        assert engine.left() == before
        await images.resolve("kept:1")


async def test_a_client_that_goes_away_leaves_nothing(engine, images):
    arrived = asyncio.Event()

    async def half():
        async for chunk in chunks(docker_archive(SourceImage([files(a=b"1" * 500_000)]))):
            yield chunk
            arrived.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(anext(images.load(half())))
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await images.collect()
    assert engine.left() == []
    assert await images.list() == []


async def test_a_reader_of_progress_that_leaves_early_ends_the_load(engine, images):
    archive = docker_archive(SourceImage([files(a=b"1" * 3_000_000), files(b=b"2")]))
    messages = images.load(chunks(archive))
    assert (await anext(messages)).status == "Loading layer"
    await messages.aclose()
    assert engine.left() == []
    assert await images.list() == []


async def test_a_save_that_is_left_early_holds_nothing_back(engine, images):
    await load(images, docker_archive(SourceImage([files(a=b"1" * 3_000_000)], ["s:1"])))
    archive = images.get(["s:1"])
    await anext(archive)
    await archive.aclose()
    await images.remove("s:1")
    assert engine.left() == []


@pytest.mark.parametrize("cut", [100, 5000, 20_000])
async def test_an_archive_cut_short_leaves_nothing(engine, images, cut):
    archive = docker_archive(SourceImage([files(a=b"1" * 30_000)], ["cut:1"]))
    with pytest.raises(HostileOrBroken, match="unexpected EOF"):
        await load(images, archive[:cut])
    assert engine.left() == []


async def test_a_failed_load_takes_nothing_from_those_beside_it(engine, images):
    shared = files(a=b"1" * 100_000)
    good, bad = SourceImage([shared], ["good:1"]), SourceImage([shared, b"not a tar" * 1000])
    results = await asyncio.gather(
        *(load(images, docker_archive(source)) for source in (good, bad, good)), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), results[1].__class__, type(None)]
    assert isinstance(results[1], HostileOrBroken)
    assert os.listdir((await images.resolve("good:1")).layers[0]) == ["a"]
    assert len(engine.left()) == 4
    with pytest.raises(NotFound):
        await images.resolve(bad.id)


async def test_loading_and_removing_at_once_never_breaks_an_image(engine, images):
    source = SourceImage([files(a=b"1" * 50_000)], ["busy:1"])

    async def remove() -> None:
        try:
            await images.remove("busy:1")
        except NotFound:
            return

    for _ in range(10):
        await asyncio.gather(load(images, docker_archive(source)), remove(), load(images, docker_archive(source)), remove())
        try:
            image = await images.resolve("busy:1")
        except NotFound:
            continue
        assert os.path.exists(image.layers[0] + "/a")
    await remove()
    assert engine.left() == []
