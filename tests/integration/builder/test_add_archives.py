"""ADD of archives."""

import bz2
import gzip
import lzma
import tarfile

import pytest
import zstandard
from boxshipd.builder.graph import Copy
from boxshipd.errors import InvalidParameter
from boxshipd.images.errors import HostileOrBroken
from support.archives import member, tar
from support.build_files import directory, hard_link, link

INNER = tar(
    directory("lib", mode=0o711, uid=5, gid=6, mtime=44),
    (member("lib/a", mode=0o4755, uid=7, gid=8, mtime=55), b"a"),
    hard_link("lib/b", "lib/a"),
    link("lib/c", "/etc"),
    (member("implied/d"), b"d"),
    (member("file"), b"new"),
)
COMPRESSIONS = {
    "tar": bytes,
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


async def add(bench, archive: bytes, base, destination="/new", **more):
    context = bench.context((member("x.tar"), archive))
    return await bench.copy(context, "x.tar", destination, onto=base, unpack=True, **more)


@pytest.fixture
def base(bench):
    return bench.base(
        directory("usr"),
        directory("usr/lib", mode=0o755),
        (member("usr/lib/old"), b"old"),
        link("lib", "usr/lib"),
        directory("file"),
        (member("file/inner"), b"i"),
    )


@pytest.mark.parametrize("kind", COMPRESSIONS)
async def test_archives_are_unpacked(bench, base, kind):
    made = await add(bench, COMPRESSIONS[kind](INNER), base)
    entries = bench.entries(made)
    lib, a = entries["new/lib"], entries["new/lib/a"]
    assert (lib.mode, lib.uid, lib.gid, lib.mtime) == (0o711, 5, 6, 44 * 10**9)
    assert (a.mode, a.uid, a.gid, a.mtime) == (0o4755, 7, 8, 55 * 10**9)
    assert a.inode == entries["new/lib/b"].inode != 0
    assert entries["new/lib/c"].link == b"/etc"
    assert entries["new/implied"].mode == 0o755
    assert bench.read(made, "new/implied/d") == b"d"


@pytest.mark.parametrize(
    "data", [b"", b"text", gzip.compress(b"text", mtime=0), bytes(4096), b"\x1f\x8bnot really", INNER[:100]]
)
async def test_what_is_no_archive_is_copied_as_it_is(bench, base, data):
    made = await add(bench, data, base)
    assert bench.read(made, "new") == data


async def test_copy_doesnt_unpack(bench, base):
    context = bench.context((member("x.tar"), INNER))
    made = await bench.copy(context, "x.tar", "/new", onto=base)
    assert bench.read(made, "new") == INNER


async def test_an_archive_is_merged_with_what_is_there(bench, base):
    made = await add(bench, INNER, base, "/")
    entries = bench.entries(made)
    assert entries["lib"].link == b"usr/lib"
    assert (entries["usr/lib"].mode, entries["usr/lib"].uid) == (0o711, 5)
    assert {"usr/lib/old", "usr/lib/a"} <= set(entries)
    assert bench.read(made, "file") == b"new"
    assert "file/inner" not in entries


async def test_what_took_a_directorys_place_may_be_one_again(bench, base):
    """What was in the directory before stays hidden."""
    context = bench.context((member("1.tar"), INNER), (member("2.tar"), tar(directory("file"), (member("file/other"), b"o"))))
    made = await bench.run(Copy(input=1, sources=("1.tar", "2.tar"), destination="/", unpack=True), inputs=[base, context])
    assert {path for path in bench.entries(made) if path.startswith("file")} == {"file", "file/other"}


async def test_an_owner_is_everybodys(bench, base):
    made = await add(bench, INNER, base, owner="12:13")
    entries = bench.entries(made)
    assert {(entry.uid, entry.gid) for path, entry in entries.items() if path.startswith("new")} == {(12, 13)}


@pytest.mark.parametrize(
    "members",
    [
        [(member("../outside"), b"x")],
        [hard_link("a", "../../etc/passwd")],
        [hard_link("a", "nothing")],
        [(member("file/x"), b"x"), (member("x"), b""), (member("x/y"), b"")],
        [link("way", "nowhere"), (member("way/x"), b"x")],
    ],
)
async def test_hostile_archives_are_refused(bench, base, members):
    with pytest.raises(HostileOrBroken):
        await add(bench, tar(*members), base)


async def test_an_archives_links_lead_nowhere_else(bench, base, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    archive = tar(link("way", str(outside)), (member(f"{str(outside)[1:]}/there"), b"in"), (member("way/x"), b"x"))
    made = await add(bench, archive, base, "/")
    assert not list(outside.iterdir())
    assert bench.read(made, f"{str(outside)[1:]}/x") == b"x"
    with pytest.raises(InvalidParameter, match="not a directory"):
        await add(bench, tar(directory("lib")), bench.base((member("file"), b""), link("lib", "file")), "/")


async def test_devices_and_absolute_names(bench, base):
    archive = tar(
        member("/dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        (member("/abs"), b"abs"),
        (member("twice"), b"1"),
        (member("./twice"), b"2"),
    )
    made = await add(bench, archive, base)
    entries = bench.entries(made)
    assert (entries["new/dev/null"].kind, entries["new/dev/null"].device) == ("char", (1, 3))
    assert bench.read(made, "new/abs") == b"abs"
    assert bench.read(made, "new/twice") == b"2"
