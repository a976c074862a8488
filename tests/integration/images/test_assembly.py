"""Images put together layer by layer, and names that mean an index."""

import os
import stat
import tarfile
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images import platform, reference
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.blob import Blob
from boxshipd.images.catalogue import Catalogue
from boxshipd.images.content import ContentStore
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.model import OCI_INDEX, Platform
from boxshipd.images.snapshots import SnapshotStore
from boxshipd.state.store import Store
from support.archives import SourceImage, digest, files, member, tar

NAME = reference.parse("docker.io/library/multi:1")
HERE = platform.host().architecture
LAYERS = [
    tar(member("usr", tarfile.DIRTYPE, mode=0o700, uid=7), (member("usr/a"), b"a")),
    tar((member("usr/b"), b"b"), member(".wh.gone")),
    files(c=b"ccc"),
]


@pytest.fixture
async def stores(tmp_path):
    root = str(tmp_path)
    with Store.open(f"{root}/state.db") as store:
        content = ContentStore(f"{root}/content")
        catalogue = Catalogue(store, content)
        await catalogue.open()
        yield Stores(content, SnapshotStore(f"{root}/snapshots"), catalogue)


def put(assembly: Assembly, source: SourceImage) -> list[Blob]:
    return [assembly.session.put(data) for data in source.blobs]


def snapshots(stores: Stores) -> list[str]:
    return os.listdir(stores.snapshots.root)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
async def test_layers_come_in_any_order_and_become_the_same(stores, order):
    source = SourceImage(LAYERS, compression="gzip")
    assembly = Assembly(stores, lambda *_: None)
    blobs = put(assembly, source)
    build = assembly.start(source.config_data)
    for position in order:
        build.layer(position, blobs[position])
    record = build.finish(source.manifest)
    assert (record.id, record.manifest.digest) == (source.id, digest(source.manifest))
    low, middle, _ = (stores.snapshots.path(layer.chain) for layer in record.layers)
    status = os.stat(f"{middle}/usr")
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o700, 7)
    assert os.listdir(low) == ["usr"]
    assert stat.S_ISCHR(os.lstat(f"{middle}/gone").st_mode)
    assembly.release()


async def test_layers_come_at_once_from_several_threads(stores):
    source = SourceImage([files(**{f"f{number}": b"x" * 100_000}) for number in range(12)], compression="zstd")
    assembly = Assembly(stores, lambda *_: None)
    blobs = put(assembly, source)
    build = assembly.start(source.config_data)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(build.layer, range(12), blobs))
    record = build.finish(None)
    assert [os.listdir(stores.snapshots.path(layer.chain)) for layer in record.layers] == [[f"f{n}"] for n in range(12)]
    assembly.release()


async def test_an_image_with_a_layer_missing_or_wrong_leaves_nothing(stores):
    source = SourceImage(LAYERS)
    assembly = Assembly(stores, lambda *_: None)
    blobs = put(assembly, source)
    build = assembly.start(source.config_data)
    build.layer(2, blobs[2])
    with pytest.raises(DigestMismatch, match="diffID mismatch for layer 0"):
        build.layer(0, blobs[1])
    with pytest.raises(InvalidParameter, match="expected 3, got 1"):
        build.finish(None)
    with pytest.raises(InvalidParameter, match="no layer 3"):
        build.layer(3, blobs[2])
    assert len(snapshots(stores)) == 1
    pinned = assembly.release()
    assert snapshots(stores) == []
    assert set(pinned[0]) == {blob.digest for blob in blobs}


async def test_images_of_one_assembly_share_what_they_have_in_common(stores):
    first, second = SourceImage(LAYERS), SourceImage([*LAYERS, files(d=b"d")])
    assembly = Assembly(stores, lambda *_: None)
    one = assembly.image(first.config_data, put(assembly, first))
    before = {name: os.stat(os.path.join(stores.snapshots.root, name)).st_ino for name in snapshots(stores)}
    two = assembly.image(second.config_data, put(assembly, second))
    assert two.layers[:3] == one.layers
    after = {name: os.stat(os.path.join(stores.snapshots.root, name)).st_ino for name in snapshots(stores)}
    assert len(after) == 4
    assert before.items() <= after.items()
    assembly.release()


def index_of(*sources: SourceImage) -> bytes:
    manifests = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(source.manifest),
            "size": len(source.manifest),
            "platform": {"architecture": source.architecture, "os": "linux"},
        }
        for source in sources
    ]
    return msgspec.json.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests})


async def add(stores: Stores, source: SourceImage, *names: str, index: bytes | None = None):
    assembly = Assembly(stores, lambda *_: None)
    record = assembly.image(source.config_data, put(assembly, source), source.manifest)
    record = await stores.catalogue.add(record, [reference.parse(name) for name in names] or [NAME], index)
    stores.catalogue.leave(*assembly.release())
    return record


async def reopened(stores: Stores, tmp_path) -> Catalogue:
    catalogue = Catalogue(stores.catalogue._store, stores.content)
    await catalogue.open()
    return catalogue


async def test_a_name_means_all_platforms_of_the_index_it_came_with(stores, tmp_path):
    here, other = SourceImage([files(a=b"1")], architecture=HERE), SourceImage([files(a=b"2")], architecture="s390x")
    index = index_of(here, other)
    await add(stores, here, index=index)
    await add(stores, other, index=index)
    for catalogue in (stores.catalogue, await reopened(stores, tmp_path)):
        assert {record.id for record in catalogue.variants(NAME)} == {here.id, other.id}
        assert catalogue.named(NAME).id == here.id
        assert catalogue.named(NAME, Platform("s390x", "linux")).id == other.id
        assert catalogue.named(NAME, Platform("arm", "linux")) is None
        assert catalogue.index_of(NAME).descriptor.digest == digest(index)
        assert catalogue.names_of(here.id) == catalogue.names_of(other.id) == [NAME]
        assert digest(index) in catalogue.content()[0]
    assert stores.content.read(digest(index)) == index


async def test_another_name_means_the_same_and_keeps_the_index(stores):
    here, other = SourceImage([files(a=b"1")], architecture=HERE), SourceImage([files(a=b"2")], architecture="s390x")
    index, again = index_of(here, other), reference.parse("again:1").tagged()
    await add(stores, here, index=index)
    await add(stores, other, index=index)
    await stores.catalogue.tag(NAME, again)
    await stores.catalogue.drop_name(NAME)
    assert len(stores.catalogue.variants(again)) == 2
    assert digest(index) not in stores.catalogue.unreferenced()[0]
    await stores.catalogue.drop_name(again)
    assert digest(index) in stores.catalogue.unreferenced()[0]


async def test_a_name_keeps_the_platforms_that_are_left(stores, tmp_path):
    here, other = SourceImage([files(a=b"1")], architecture=HERE), SourceImage([files(a=b"2")], architecture="s390x")
    index = index_of(here, other)
    await add(stores, here, index=index)
    await add(stores, other, index=index)
    await stores.catalogue.remove(other.id, keep=False)
    for catalogue in (stores.catalogue, await reopened(stores, tmp_path)):
        assert [record.id for record in catalogue.variants(NAME)] == [here.id]
    await stores.catalogue.remove(here.id, keep=False)
    for catalogue in (stores.catalogue, await reopened(stores, tmp_path)):
        assert catalogue.variants(NAME) == []
        assert catalogue.content() == (set(), set())
    assert digest(index) in stores.catalogue.unreferenced()[0]


async def test_an_image_takes_over_the_manifest_it_is_pulled_with(stores, tmp_path):
    plain, packed = SourceImage([files(a=b"1")]), SourceImage([files(a=b"1")], compression="gzip")
    await add(stores, plain, "kept:1")
    record = await add(stores, packed, "kept:1")
    assert record.manifest.digest == digest(plain.manifest)
    record = await add(stores, packed, "kept:1", f"kept@{digest(packed.manifest)}")
    assert (record.manifest.digest, record.layers[0].blob) == (digest(packed.manifest), digest(packed.blobs[0]))
    assert (await reopened(stores, tmp_path)).get(packed.id) == record
    assert digest(plain.manifest) in stores.catalogue.unreferenced()[0]


@pytest.mark.parametrize("wrong", [b"", b"{}", b'{"manifests":[],"layers":[]}', b'{"manifests":[],"config":{}}'])
async def test_what_is_no_index_is_refused(stores, wrong):
    with pytest.raises(InvalidParameter, match="index"):
        await add(stores, SourceImage([files(a=b"1")]), index=wrong)
    assert stores.catalogue.records() == []
