"""Names that mean several platforms, from an archive to a container and back."""

import io
import json
import os
import tarfile

import pytest
from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images import platform
from boxshipd.images.image import ImageUse
from support.archives import SourceImage, chunks, digest, files, member, oci_archive, tar

HERE = platform.host().architecture
MINE = SourceImage([files(name=b"mine")], ["multi:1"], "gzip", {"Cmd": ["mine"]}, HERE)
OTHER = SourceImage([files(name=b"other")], ["multi:1"], "zstd", {"Cmd": ["other"]}, "s390x")
ATTESTATION = SourceImage([files(name=b"unknown")], ["multi:1"], architecture="unknown")


async def load(images, archive: bytes, **more) -> list[str]:
    return [message.stream async for message in images.load(chunks(archive), quiet=True, **more)]


async def save(images, *names: str, wanted: str = "") -> bytes:
    return b"".join([chunk async for chunk in images.get(list(names), wanted)])


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {info.name: opened.extractfile(info).read() for info in opened if info.isreg()}


def index_in(archive: bytes) -> dict:
    return json.loads(members(archive)["index.json"])


@pytest.fixture
async def multi(images):
    assert await load(images, oci_archive(OTHER, MINE, nested=True)) == ["Loaded image: multi:1\n"]
    return images


async def test_each_platform_of_a_name_can_be_had(multi):
    assert (await multi.resolve("multi:1")).config.cmd == ["mine"]
    assert (await multi.resolve("multi:1", f"linux/{HERE}")).config.cmd == ["mine"]
    other = await multi.resolve("multi:1", "linux/s390x")
    assert (other.config.cmd, other.architecture, other.warning) == (["other"], "s390x", "")
    with pytest.raises(NotFound, match=r"does not match the specified platform \(linux/riscv64\)"):
        await multi.resolve("multi:1", "linux/riscv64")
    assert (await multi.history("multi:1", "linux/s390x"))[0].id == OTHER.id


async def test_an_image_of_another_platform_is_warned_of_where_none_was_asked_for(images):
    await load(images, oci_archive(SourceImage([files(a=b"1")], ["foreign:1"], architecture="s390x")))
    image = await images.resolve("foreign:1")
    assert image.warning.startswith("The requested image's platform (linux/s390x) does not match the detected host platform")
    assert (await images.resolve("foreign:1", "linux/s390x")).warning == ""


async def test_the_index_is_what_is_shown_of_the_name(engine, multi):
    engine.uses = {OTHER.id: [ImageUse("c1", "n", running=False)]}
    shown = await multi.inspect("multi:1", manifests=True)
    index = next(data for data in (await saved_blobs(multi)).values() if b'"manifests"' in data)
    assert (shown.descriptor.media_type, shown.descriptor.digest) == (
        "application/vnd.oci.image.index.v1+json",
        digest(index),
    )
    other, mine = shown.manifests
    assert (mine.id, mine.kind, mine.available, mine.image_data.containers) == (digest(MINE.manifest), "image", True, [])
    assert (other.image_data.platform.architecture, other.image_data.containers) == ("s390x", ["c1"])
    content = len(MINE.manifest) + len(MINE.config_data) + len(MINE.blobs[0])
    assert (mine.size.content, mine.size.total, mine.image_data.size.unpacked) == (content, content + 4, 4)
    one = await multi.inspect("multi:1", "linux/s390x")
    assert (one.id, one.descriptor.digest) == (OTHER.id, digest(OTHER.manifest))
    with pytest.raises(InvalidParameter, match="cannot both be set"):
        await multi.inspect("multi:1", "linux/s390x", manifests=True)


async def saved_blobs(images) -> dict[str, bytes]:
    return {name: data for name, data in members(await save(images, "multi:1")).items() if name.startswith("blobs/")}


async def test_what_the_index_lists_and_isn_t_here_is_told_as_missing(images):
    await load(images, oci_archive(MINE, OTHER, ATTESTATION, nested=True), wanted=f"linux/{HERE}")
    listed = (await images.inspect("multi:1", manifests=True)).manifests
    assert [(one.available, one.size.total > 0) for one in listed] == [(True, True), (False, False), (False, False)]
    with pytest.raises(NotFound):
        await images.resolve("multi:1", "linux/s390x")
    await load(images, oci_archive(MINE, OTHER, ATTESTATION, nested=True), wanted="linux/s390x")
    assert (await images.resolve("multi:1", "linux/s390x")).architecture == "s390x"
    assert (await images.resolve("multi:1")).architecture == HERE


async def test_a_name_is_one_row_of_the_list(multi):
    rows = await multi.list(manifests=True)
    assert [(row.id, row.repo_tags, len(row.manifests)) for row in rows] == [(MINE.id, ["multi:1"], 2)]
    assert {row.id for row in await multi.list(True)} == {MINE.id, OTHER.id}
    assert await multi.list(filters=Filters.parse('{"dangling":["true"]}')) == []
    assert len(await multi.list(filters=Filters.parse('{"reference":["multi"]}'))) == 1


async def test_all_of_it_goes_out_and_comes_back_with_the_same_digests(engine, multi, tmp_path):
    archive = await save(multi, "multi:1")
    (entry,) = index_in(archive)["manifests"]
    before = await multi.inspect("multi:1", manifests=True)
    assert entry["digest"] == before.descriptor.digest
    await multi.remove("multi:1")
    assert engine.left() == []
    assert await load(multi, archive) == ["Loaded image: multi:1\n"]
    after = await multi.inspect("multi:1", manifests=True)
    assert (after.id, after.descriptor, after.manifests) == (before.id, before.descriptor, before.manifests)
    assert await save(multi, "multi:1") == archive


async def test_one_platform_is_saved_alone(multi):
    archive = await save(multi, "multi:1", wanted="linux/s390x")
    (entry,) = index_in(archive)["manifests"]
    assert (entry["digest"], entry["platform"]["architecture"]) == (digest(OTHER.manifest), "s390x")
    assert not any(MINE.id.partition(":")[2] in name for name in members(archive))
    with pytest.raises(NotFound):
        await save(multi, "multi:1", wanted="linux/riscv64")


async def test_a_tag_means_all_platforms_too_and_keeps_them(engine, multi):
    await multi.tag("multi:1", "again", "2")
    await multi.remove("multi:1")
    assert (await multi.resolve("again:2", "linux/s390x")).id == OTHER.id
    assert (await multi.inspect("again:2")).descriptor.media_type.endswith("index.v1+json")
    await multi.remove("again:2")
    assert engine.left() == []


async def test_a_platform_is_removed_alone_unless_it_is_used(engine, multi):
    engine.uses = {OTHER.id: [ImageUse("c" * 64, "n", running=False)]}
    with pytest.raises(Conflict, match="stopped container"):
        await multi.remove("multi:1", wanted=["linux/s390x"])
    engine.uses = {}
    items = await multi.remove("multi:1", wanted=["linux/s390x"])
    assert [item.deleted for item in items] == [OTHER.id, digest(OTHER.layers[0])]
    assert (await multi.resolve("multi:1")).id == MINE.id
    with pytest.raises(NotFound):
        await multi.resolve("multi:1", "linux/s390x")
    with pytest.raises(NotFound):
        await multi.remove("multi:1", wanted=["linux/s390x"])
    assert (await multi.remove("multi:1", wanted=[f"linux/{HERE}"]))[0].untagged == "multi:1"
    assert engine.left() == []


async def test_removing_by_id_leaves_the_name_to_the_other_platforms(engine, multi):
    await multi.remove(MINE.id)
    assert (await multi.resolve("multi:1")).id == OTHER.id
    await multi.remove(OTHER.id)
    assert engine.left() == []


async def test_a_name_whose_platform_is_used_stays(engine, multi):
    engine.uses = {OTHER.id: [ImageUse("c" * 64, "n", running=True)]}
    with pytest.raises(Conflict, match="is using its referenced image"):
        await multi.remove("multi:1")
    assert (await multi.resolve("multi:1")).id == MINE.id


async def test_a_name_that_moves_to_another_index_leaves_dangling_images(multi):
    newer = SourceImage([files(name=b"newer")], ["multi:1"], architecture=HERE)
    await load(multi, oci_archive(newer, nested=True))
    assert (await multi.resolve("multi:1")).id == newer.id
    dangling = await multi.list(filters=Filters.parse('{"dangling":["true"]}'))
    assert {row.id for row in dangling} == {MINE.id, OTHER.id}
    assert (await multi.prune()).images_deleted
    assert [row.id for row in await multi.list(True)] == [newer.id]


async def test_a_digest_names_the_index_and_its_manifests(multi):
    index = (await multi.inspect("multi:1")).descriptor.digest
    assert (await multi.inspect(f"multi@{index}")).id == MINE.id
    assert (await multi.inspect(f"multi@{index}", "linux/s390x")).id == OTHER.id
    assert (await multi.inspect(f"multi@{digest(OTHER.manifest)}")).id == OTHER.id


async def test_a_document_that_is_a_manifest_and_an_index_is_refused(images):
    both = json.loads(MINE.manifest) | {"manifests": []}
    image = SourceImage(MINE.layers, MINE.names, MINE.compression, MINE.config, HERE)

    class Both(SourceImage):
        manifest = json.dumps(both).encode()

    hostile = Both(image.layers, image.names, image.compression, image.config, HERE)
    for nested in (False, True):
        with pytest.raises(InvalidParameter, match="a manifest and an index at once"):
            await load(images, oci_archive(hostile, nested=nested))


async def test_after_prune_the_disk_is_as_empty_as_before(engine, images):
    def used() -> int:
        return sum(
            os.lstat(os.path.join(directory, name)).st_blocks for directory, _, names in os.walk(engine.root) for name in names
        )

    before = used()
    big = SourceImage([tar((member("big"), os.urandom(5 << 20)), (member("small"), b"s"))], ["big:1"], "gzip")
    await load(images, oci_archive(big, MINE))
    with images._stores.content.ingest("sha256:" + "0" * 64, 4 << 20) as cut:
        cut.write(bytes(3 << 20))
    assert used() > before + (10 << 20) // 512
    answer = await images.prune(Filters.parse('{"dangling":["false"]}'))
    assert answer.space_reclaimed > 8 << 20
    assert used() <= before * 1.01
