"""Layers, archives and documents that nobody thought of: whatever comes is refused in words, and nothing gets out or stays."""

import asyncio
import gzip
import json
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images.service import Images
from boxshipd.images.unpack.layer import unpack_layer
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tree import inherit
from boxshipd.state.store import Store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.archives import SourceImage, chunks, digest, member, oci_archive, tar
from support.hostile import state_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")

EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    b"7",
    b"Z",
)
PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh.", ".wh...", "x" * 200])
PATHS = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
SMALL = Limits(stream_bytes=1 << 20, file_bytes=1 << 20, entries=40, header_bytes=4096, free_bytes=0)


@st.composite
def entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    """A member with any name, kind, target, owner and attributes; ``{out}`` stands for a directory outside."""
    kind = draw(st.sampled_from(KINDS))
    target = draw(st.one_of(PATHS, PATHS.map("/".__add__), st.sampled_from(["{out}", "{out}/sentinel", "../" * 30 + "{out}"])))
    info = member(draw(st.one_of(PATHS, PATHS.map("/".__add__))), kind, linkname=target)
    info.mode = draw(st.sampled_from([0o644, 0o755, 0, 0o7777, 0o4755]))
    info.uid = draw(st.sampled_from([0, 1000, 1 << 20, 0xFFFFFFFE]))
    info.mtime = draw(st.sampled_from([0, -1, 1 << 33, 1.5]))
    info.devmajor, info.devminor = draw(st.sampled_from([(0, 0), (1, 3), (255, 255)]))
    info.pax_headers = draw(
        st.sampled_from(
            [
                {},
                {"SCHILY.xattr.user.a": "b"},
                {"SCHILY.xattr.trusted.overlay.opaque": "y"},
                {"SCHILY.xattr.trusted.overlay.redirect": "/"},
                {"SCHILY.xattr.security.capability": "nonsense"},
                {"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999"},
                {"GNU.sparse.map": "5,1,0,1", "GNU.sparse.size": "9"},
                {"size": "5"},
                {"path": "../../x"},
            ]
        )
    )
    return info, draw(st.binary(max_size=20)) if info.isreg() else b""


def in_place(entry: tuple[tarfile.TarInfo, bytes], outside: str) -> tuple[tarfile.TarInfo, bytes]:
    info, data = entry
    info.linkname = info.linkname.replace("{out}", outside)
    return info, data


@EXAMPLES
@given(st.lists(entries(), max_size=12), st.lists(entries(), max_size=4), st.booleans())
def test_no_series_of_entries_reaches_outside(upper, lower, layered):
    with tempfile.TemporaryDirectory() as home:
        outside = Path(home, "out")
        outside.mkdir()
        (outside / "sentinel").write_text("untouched")
        before = state_of(str(outside)), os.listdir("/"), len(os.listdir("/proc/self/fd"))
        below = Path(home, "in", "below")
        below.mkdir(parents=True)
        if layered:
            apply(below, [in_place(entry, str(outside)) for entry in lower], [])
        root = Path(home, "in", "root")
        root.mkdir()
        apply(root, [in_place(entry, str(outside)) for entry in upper], [str(below)] if layered else [])
        assert (state_of(str(outside)), os.listdir("/"), len(os.listdir("/proc/self/fd"))) == before
        assert sorted(os.listdir(Path(home, "in"))) == ["below", "root"]


def apply(root: Path, members: list[tuple[tarfile.TarInfo, bytes]], below: list[str]) -> None:
    """Unpack entries as a layer; being refused is fine."""
    try:
        data = tar(*members)
    except (ValueError, OverflowError):
        return
    blob = root.parent.parent / "blob"
    blob.write_bytes(data)
    try:
        unpacked = unpack_layer(str(blob), str(root), lowest=not below, limits=SMALL)
    except InvalidParameter:
        return
    inherit(str(root), unpacked.implied, below)


HONEST = tar(
    member("d", tarfile.DIRTYPE),
    (member("d/f", pax_headers={"SCHILY.xattr.user.k": "v", "mtime": "1.25"}), b"content" * 40),
    member("l", tarfile.SYMTYPE, linkname="d/f"),
    member("h", tarfile.LNKTYPE, linkname="d/f"),
    (member("n" * 150), b""),
    member(".wh.x"),
)
PACKED = {"plain": HONEST, "gzip": gzip.compress(HONEST, mtime=0), "zstd": zstandard.ZstdCompressor().compress(HONEST)}


@pytest.mark.parametrize("packing", PACKED)
@EXAMPLES
@given(st.data())
def test_damaged_layers_are_unpacked_or_refused(packing, data):
    damaged = bytearray(PACKED[packing])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    with tempfile.TemporaryDirectory() as home:
        blob, root = Path(home, "blob"), Path(home, "root")
        blob.write_bytes(damaged[: cut or None])
        root.mkdir()
        try:
            unpack_layer(str(blob), str(root), lowest=False, limits=SMALL)
        except InvalidParameter:
            pass
        assert sorted(os.listdir(home)) == ["blob", "root"]


SOURCE = SourceImage([HONEST], ["docker.io/library/fuzz:1"], "gzip", architecture="amd64")
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 70), 1 << 70),
        st.text(max_size=8),
        st.sampled_from([digest(SOURCE.manifest), digest(b""), "sha256:../../x", "application/vnd.oci.image.index.v1+json"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["digest", "size", "config"]), inner)),
    max_leaves=6,
)


def places(document: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Everywhere in a document that something else could be."""
    found = [path] if path else []
    steps = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in steps:
        found += places(value, (*path, key))
    return found


def changed(document: bytes, data: st.DataObject) -> bytes:
    """A document with something in it replaced or left out."""
    decoded = json.loads(document)
    path = data.draw(st.sampled_from(places(decoded)))
    above = decoded
    for step in path[:-1]:
        above = above[step]
    if isinstance(above, dict) and data.draw(st.booleans()):
        del above[path[-1]]
    else:
        above[path[-1]] = data.draw(VALUES)
    return json.dumps(decoded).encode()


class Fuzzed(SourceImage):
    """An image some of whose documents are not what they were, and consistent in everything else."""

    fuzzed: dict[str, bytes]

    @property
    def config_data(self) -> bytes:
        return self.fuzzed.get("config") or super().config_data

    @property
    def manifest(self) -> bytes:
        return self.fuzzed.get("manifest") or super().manifest


@pytest.mark.parametrize("which", ["config", "manifest"])
@pytest.mark.parametrize("nested", [False, True], ids=["manifest", "index"])
@settings(EXAMPLES, max_examples=40)
@given(st.data())
def test_documents_that_are_not_what_they_should_be_are_taken_whole_or_not_at_all(which, nested, data):
    image = Fuzzed(SOURCE.layers, SOURCE.names, SOURCE.compression, SOURCE.config, SOURCE.architecture)
    image.fuzzed = {which: changed(getattr(SOURCE, "config_data" if which == "config" else "manifest"), data)}
    asyncio.run(loaded_whole_or_not_at_all(oci_archive(image, nested=nested)))


async def loaded_whole_or_not_at_all(archive: bytes) -> None:
    with tempfile.TemporaryDirectory() as root, Store.open(f"{root}/state.db") as store:
        images = await Images.open(root, store, publish=lambda *_: None, uses=lambda _: ())
        try:
            try:
                async for _ in images.load(chunks(archive)):
                    pass
            except (InvalidParameter, NotFound):
                assert await images.list(True) == []
            for row in await images.list(True):
                await images.inspect(row.id)
                await images.history(row.id)
                async for _ in images.get([row.id]):
                    pass
                await images.remove(row.id, force=True)
            kept = [*os.listdir(f"{root}/content/blobs/sha256"), *os.listdir(f"{root}/content/ingest")]
            assert (kept, os.listdir(f"{root}/snapshots")) == ([], [])
        finally:
            images.close()
