"""Archives that try to get out, or to take the machine with them: refused, with nothing written outside."""

import gzip
import io
import json
import os
import tarfile
import tracemalloc

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images.service import Images
from boxshipd.images.unpack.layer import unpack_layer
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tree import inherit
from boxshipd.state.store import Store
from support.archives import SourceImage, chunks, digest, docker_archive, member, oci_archive, tar
from support.hostile import EVIL, HARD, HARMLESS, REFUSED, SYM, layer, state_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")


@pytest.fixture
def outside(tmp_path):
    out = tmp_path / "outside"
    out.mkdir()
    (out / "sentinel").write_bytes(b"untouched")
    (out / "sub").mkdir()
    return str(out)


def unpack(data: bytes, tmp_path, below: list[str] | None = None, limits: Limits = Limits()):  # noqa: B008
    blob, root = tmp_path / "blob", tmp_path / "in" / "root"
    blob.write_bytes(data)
    root.mkdir(parents=True)
    unpacked = unpack_layer(str(blob), str(root), lowest=not below, limits=limits)
    inherit(str(root), unpacked.implied, below or [])
    return root


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("lower", [False, True], ids=["lowest", "upper"])
def test_refused_with_nothing_written_outside(tmp_path, outside, name, lower):
    below = tmp_path / "below"
    below.mkdir()
    before = state_of(outside), os.listdir("/")
    with pytest.raises(InvalidParameter):
        unpack(layer(REFUSED[name], outside), tmp_path, [str(below)] if lower else None)
    assert (state_of(outside), os.listdir("/")) == before
    assert sorted(os.listdir(tmp_path / "in")) == ["root"]


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("lower", [False, True], ids=["lowest", "upper"])
def test_taken_with_nothing_written_outside(tmp_path, outside, name, lower):
    below = tmp_path / "below"
    below.mkdir()
    before = state_of(outside), os.listdir("/")
    root = unpack(layer(HARMLESS[name], outside), tmp_path, [str(below)] if lower else None)
    assert (state_of(outside), os.listdir("/")) == before
    assert os.listdir(root)


def test_parents_below_that_lead_out_are_not_followed(tmp_path, outside):
    below = tmp_path / "below"
    below.mkdir()
    os.symlink(outside, below / "d")
    root = unpack(tar((member("d/f"), EVIL)), tmp_path, [str(below)])
    assert (root / "d" / "f").read_bytes() == EVIL
    assert os.listdir(outside).count("f") == 0


@pytest.mark.parametrize("pack", [gzip.compress, lambda data: gzip.compress(gzip.compress(data))], ids=["once", "twice"])
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, pack):
    bomb = pack(tar((member("zeros"), bytes(64 << 20))))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidParameter):
            unpack(bomb, tmp_path, limits=Limits(ratio=100, ratio_from=8 << 20))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    written = sum(
        os.stat(os.path.join(root, name)).st_blocks * 512 for root, _, names in os.walk(tmp_path / "in") for name in names
    )
    assert written <= 16 << 20


def test_a_file_of_holes_takes_no_room_and_has_its_bound(tmp_path):
    headers = {"GNU.sparse.map": "0,4", "GNU.sparse.size": str(1 << 40), "GNU.sparse.name": "holes"}
    archive = tar((member("f", pax_headers=headers), b"data"))
    root = unpack(archive, tmp_path)
    assert (root / "holes").stat().st_size == 1 << 40
    assert (root / "holes").stat().st_blocks < 100
    with pytest.raises(InvalidParameter, match="makes a file of"):
        unpack(
            archive, tmp_path / "again" if (tmp_path / "again").mkdir() is None else tmp_path, limits=Limits(file_bytes=1 << 30)
        )


def archive_of(**documents: bytes) -> bytes:
    return tar(*((member(name.replace("__", "/")), data) for name, data in documents.items()))


GOOD = tar((member("f"), b"x"))
CONFIG = SourceImage([GOOD]).config_data
HEX = "0" * 64


def manifest_archive(
    config: object = "c.json", layers: object = ("l.tar",), tags: object = None, data: bytes = CONFIG
) -> bytes:
    document = json.dumps([{"Config": config, "RepoTags": tags, "Layers": layers}]).encode()
    return tar((member("manifest.json"), document), (member("c.json"), data), (member("l.tar"), GOOD))


def index_archive(*descriptors: dict[str, object]) -> bytes:
    return archive_of(**{"index.json": json.dumps({"manifests": descriptors}).encode()})


def linked(target: str, kind: bytes) -> bytes:
    return tar((member("manifest.json", kind, linkname=target), b""), (member("x"), b""))


def config_of(**changes: object) -> bytes:
    return json.dumps({**json.loads(CONFIG), **changes}).encode()


HOSTILE_IMAGES = {
    "empty": tar(),
    "not-an-archive": b"hello" * 1000,
    "nothing": b"",
    "no-manifest": GOOD,
    "manifest-outside-by-symlink": linked("/etc/passwd", SYM),
    "manifest-outside-by-dot-dot": linked("../../../../etc/passwd", SYM),
    "manifest-outside-by-hard-link": linked("/etc/passwd", HARD),
    "manifest-loop": tar(member("manifest.json", SYM, linkname="a"), member("a", SYM, linkname="manifest.json")),
    "config-outside": manifest_archive(config="../../../etc/passwd"),
    "config-absolute": manifest_archive(config="/etc/passwd"),
    "layer-outside": manifest_archive(layers=["../../../etc/passwd"]),
    "layer-missing": manifest_archive(layers=["none.tar"]),
    "layer-too-many": manifest_archive(layers=["l.tar", "l.tar"]),
    "layer-none": manifest_archive(layers=[]),
    "layer-is-not-a-tar": manifest_archive(layers=["c.json"]),
    "name-invalid": manifest_archive(tags=["../../x"]),
    "name-with-newline": manifest_archive(tags=["a:b\nc"]),
    "config-not-json": manifest_archive(data=b"{"),
    "config-of-wrong-type": manifest_archive(data=b"[]"),
    "config-nested-deeply": manifest_archive(data=b"[" * 100_000),
    "diff-id-is-a-path": manifest_archive(data=config_of(rootfs={"type": "layers", "diff_ids": ["../../../../etc"]})),
    "diff-id-is-another": manifest_archive(data=config_of(rootfs={"type": "layers", "diff_ids": [f"sha256:{HEX}"]})),
    "diff-ids-by-the-thousand": manifest_archive(
        data=config_of(rootfs={"type": "layers", "diff_ids": [f"sha256:{HEX}"] * 5000})
    ),
    "manifest-not-a-list": archive_of(**{"manifest.json": b"{}"}),
    "digest-is-a-path": index_archive({"mediaType": "x", "digest": "sha256:../../../etc/passwd", "size": 1}),
    "digest-of-unknown-kind": index_archive({"mediaType": "x", "digest": "md5:" + "0" * 32, "size": 1}),
    "digest-missing": index_archive(
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": f"sha256:{HEX}", "size": 1}
    ),
    "index-is-empty": index_archive(),
    "cut-short": docker_archive(SourceImage([GOOD]))[:3000],
    "sparse-member": tar((member("x", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"}), b"x")),
}


def self_containing_index() -> bytes:
    """An index that claims to contain itself can't exist by its digest; one that lies about it can."""
    inner = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": f"sha256:{HEX}", "size": 1}
    data = json.dumps({"manifests": [inner]}).encode()
    return tar((member("index.json"), data), (member(f"blobs/sha256/{HEX}"), data))


HOSTILE_IMAGES["index-in-itself"] = self_containing_index()


def forged_blob() -> bytes:
    """An OCI layout whose layer isn't what its digest says."""
    source = SourceImage([GOOD], ["docker.io/library/forged:1"])
    name = "blobs/sha256/" + digest(GOOD).partition(":")[2]
    with tarfile.open(fileobj=io.BytesIO(oci_archive(source))) as archive:
        members = [(entry, archive.extractfile(entry).read()) for entry in archive]
    return tar(*((info, tar((member("f"), EVIL)) if info.name == name else data) for info, data in members))


HOSTILE_IMAGES["forged-blob"] = forged_blob()


@pytest.mark.parametrize("name", HOSTILE_IMAGES)
async def test_hostile_archives_of_images_leave_nothing(tmp_path, name):
    with Store.open(str(tmp_path / "state.db")) as store:
        images = await Images.open(str(tmp_path), store, publish=lambda *_: None, uses=lambda _: ())
        try:
            with pytest.raises(InvalidParameter) as caught:
                async for _ in images.load(chunks(HOSTILE_IMAGES[name])):
                    pass
            assert "root:" not in str(caught.value)
            assert await images.list() == []
        finally:
            images.close()
    for directory in ("content/ingest", "content/blobs/sha256", "snapshots"):
        assert os.listdir(tmp_path / directory) == []


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "unknown-type"])
async def test_the_same_tricks_in_an_import(tmp_path, outside, name):
    before = state_of(outside)
    data = tmp_path / "data"
    data.mkdir()
    with Store.open(str(data / "state.db")) as store:
        images = await Images.open(str(data), store, publish=lambda *_: None, uses=lambda _: ())
        try:
            with pytest.raises(InvalidParameter):
                async for _ in images.import_(chunks(layer(REFUSED[name], outside))):
                    pass
        finally:
            images.close()
    assert state_of(outside) == before
    assert os.listdir(data / "snapshots") == os.listdir(data / "content/blobs/sha256") == []
