"""Archives as trees: indexed, never unpacked unless somebody has to mount them."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import shutil
import tarfile

import pytest
import zstandard
from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.trees.archive import ArchiveTree, is_archive
from boxshipd.builder.trees.paths import walk
from boxshipd.errors import InvalidParameter
from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.limits import Limits
from support.archives import member, tar
from support.build_files import directory, hard_link, link, sparse_archive

COMPRESSIONS = {
    "none": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}
BIG = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def read(tmp_path):
    made = []

    def read(archive: bytes, **more) -> ArchiveTree:
        made.append(ArchiveTree.read(io.BytesIO(archive), str(tmp_path), **more))
        return made[-1]

    yield read
    for tree in made:
        tree.close()
    assert not os.listdir(tmp_path)


def of(tree: ArchiveTree) -> dict[str, str]:
    return {os.fsdecode(entry.path): entry.kind for entry in walk(tree, b"")}


def files(tree: ArchiveTree) -> set[str]:
    return {path for path, kind in of(tree).items() if kind == "file"}


def content(tree: ArchiveTree, path: str) -> bytes:
    entry = tree.entry(os.fsencode(path))
    assert entry is not None
    with tree.open(entry) as file:
        data = file.read()
    assert b"".join(tree.pieces(entry, 0, entry.size)) == data
    assert tree.checksum(entry) == f"sha256:{hashlib.sha256(data).hexdigest()}"
    return data


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_every_compression_and_format(read, compression, form):
    long = "/".join(["x" * 90] * 4)
    archive = tar(
        directory("d", mode=0o711, uid=1, gid=2, mtime=3),
        (member("d/big", mode=0o640, mtime=4), BIG),
        (member(long), b"long"),
        link("d/link", "y" * 200),
        form=form,
    )
    tree = read(COMPRESSIONS[compression](archive))
    assert content(tree, "d/big") == BIG
    assert content(tree, long) == b"long"
    entry = tree.entry(b"d")
    assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o711, 1, 2, 3 * 10**9)
    assert tree.entry(b"d/link").link == b"y" * 200
    assert [each.path for each in tree.children(b"d")] == [b"d/big", b"d/link"]
    assert not tree.children(b"d/big")


def test_an_empty_context(read):
    for archive in (b"", tar(), gzip.compress(b"")):
        tree = read(archive)
        assert of(tree) == {}
        assert tree.entry(b"").kind == "directory"


def test_parts_of_files(read):
    tree = read(tar((member("a"), b"before"), (member("big"), BIG)))
    entry = tree.entry(b"big")
    with tree.open(entry) as file:
        file.seek(1_000_000)
        assert file.read(10) == BIG[1_000_000:1_000_010]
        file.seek(-5, os.SEEK_END)
        assert file.read() == BIG[-5:]
        assert file.read() == b""
    assert b"".join(tree.pieces(entry, 2_999_990, 100)) == BIG[-10:]


def test_files_with_holes(read, tmp_path):
    length = 8 << 20
    archive = sparse_archive(tmp_path, length)
    shutil.rmtree(tmp_path / "holes")
    tree = read(archive)
    data = content(tree, "sparse")
    assert len(data) == length
    assert data[length // 2 : length // 2 + 7] == b"middle\0"
    assert sum(count for _, count in tree.extents(tree.entry(b"sparse"))) < 1 << 20


def test_what_is_ignored(read):
    archive = tar(
        directory("out", mode=0o700),
        (member("out/secret"), b"s"),
        directory("out/deep", mode=0o711),
        (member("out/deep/kept"), b"k"),
        directory("empty"),
        (member("a.log"), b"l"),
        hard_link("b", "a.log"),
    )
    tree = read(archive, exclude=Matcher(["out", "*.log", "empty", "!out/deep/kept"]))
    assert of(tree) == {"out": "directory", "out/deep": "directory", "out/deep/kept": "file", "b": "file"}
    assert tree.entry(b"out").mode == 0o700
    assert content(tree, "b") == b"l"


def test_the_last_of_several_wins(read):
    archive = tar(
        (member("a"), b"1"),
        directory("d"),
        (member("d/x"), b"x"),
        (member("./a", mode=0o600), b"2"),
        (member("d"), b"file now"),
        (member("e"), b""),
        directory("e"),
        (member("e/y"), b"y"),
        directory("e", mode=0o700),
        link("e/y", "z"),
    )
    tree = read(archive)
    assert of(tree) == {"a": "file", "d": "file", "e": "directory", "e/y": "symlink"}
    assert content(tree, "a") == b"2"
    assert tree.entry(b"e").mode == 0o700


def test_members_below_links_go_where_they_lead_inside(read):
    archive = tar(
        directory("real/inner"),
        link("way", "/real"),
        link("up", "../../../real/./inner"),
        (member("way/x"), b"x"),
        (member("up/y"), b"y"),
        (member("way/inner/../z"), b"z"),
    )
    tree = read(archive)
    assert files(tree) == {"real/x", "real/inner/y", "real/z"}
    assert tree.resolve(b"way/inner/y") == b"real/inner/y"
    assert tree.resolve(b"up/../x") == b"real/x"
    assert tree.resolve(b"../../way/nothing/../x") == b"real/x"


def test_a_link_that_goes_away_leads_nowhere_any_more(read):
    archive = tar(
        directory("one"),
        directory("two"),
        link("way", "one"),
        (member("way/x"), b"x"),
        link("way", "two"),
        (member("way/y"), b"y"),
    )
    assert files(read(archive)) == {"one/x", "two/y"}


@pytest.mark.parametrize(
    "members",
    [
        [(member("../x"), b"")],
        [(member("a/../../x"), b"")],
        [link("a", "nowhere"), (member("a/x"), b"")],
        [link("a", "b"), link("b", "a"), (member("a/x"), b"")],
        [(member("a"), b""), (member("a/x"), b"")],
        [hard_link("a", "a")],
        [hard_link("a", "nothing")],
        [directory("d"), hard_link("a", "d")],
        [hard_link("a", "../../etc/passwd")],
        [(member("."), b"root")],
        [link("a", "")],
    ],
)
def test_what_cant_be_is_refused(read, members):
    with pytest.raises(InvalidParameter):
        read(tar(*members))


def test_absolute_names_are_relative(read):
    tree = read(tar((member("/etc/passwd"), b"x"), directory("//d")))
    assert of(tree) == {"etc": "directory", "etc/passwd": "file", "d": "directory"}


def test_an_archive_that_is_cut_short(read):
    archive = tar((member("a"), BIG))
    for cut in (100, 2000, len(archive) // 2):
        with pytest.raises(InvalidArchive):
            read(archive[:cut])
    with pytest.raises(InvalidArchive):
        read(gzip.compress(archive)[:-1000])


def test_limits(read):
    many = tar(*((member(f"f{number}"), b"") for number in range(30)))
    with pytest.raises(LimitExceeded, match="more than 20 entries"):
        read(many, limits=Limits(entries=20))
    bomb = gzip.compress(tar((member("zeros"), bytes(4 << 20))))
    with pytest.raises(LimitExceeded, match="expands more than 200 times"):
        read(bomb, limits=Limits(ratio_from=1 << 20))
    with pytest.raises(LimitExceeded):
        read(tar((member("x" * 3000), b"")), limits=Limits(header_bytes=1000))


def test_names_and_attributes_that_fill_the_memory_are_refused(read, monkeypatch):
    monkeypatch.setattr("boxshipd.builder.trees.index._MEMORY", 100_000)
    with pytest.raises(LimitExceeded, match="too many files"):
        read(tar(*((member(f"{number}"), b"") for number in range(300))))
    with pytest.raises(LimitExceeded, match="too many files"):
        read(tar((member("x", pax_headers={"SCHILY.xattr.user.x": "v" * 100_000}), b"")))


def test_work_ends_when_it_is_told_to(read):
    class EndedError(Exception):
        pass

    def check():
        raise EndedError

    with pytest.raises(EndedError):
        read(tar((member("a"), b"")), check=check)


def test_the_digest_is_of_what_counts(read):
    base = [directory("d"), (member("d/a", mtime=1), b"a"), (member("b"), b"b")]
    first = read(tar(*base)).digest
    assert read(gzip.compress(tar(base[2], base[0], (member("d/a", mtime=2), b"a")))).digest == first
    others = [
        [*base[:2], (member("b"), b"B")],
        [*base[:2], (member("b", uid=1), b"b")],
        [*base[:2], (member("b", mode=0o600), b"b")],
        [*base[:2], (member("c"), b"b")],
        [*base, directory("e")],
        [*base[:2], hard_link("b", "d/a")],
    ]
    assert len({first, *(read(tar(*each)).digest for each in others)}) == 7


def test_whether_something_is_an_archive():
    for data, expected in (
        (tar((member("x"), b"")), True),
        (gzip.compress(tar((member("x"), b""))), True),
        (tar(), False),
        (b"", False),
        (b"x" * 2000, False),
        (gzip.compress(b"x" * 2000), False),
    ):
        assert is_archive(io.BytesIO(data)) is expected


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_as_a_directory(read):
    tree = read(
        tar(
            directory(".", mode=0o711),
            directory("d", mode=0o700, mtime=5),
            (member("d/a", mode=0o640, uid=3, gid=4), b"a"),
            hard_link("d/b", "d/a"),
            link("l", "/etc/passwd"),
            (member(".wh.x"), b"no whiteout"),
            (member("gone"), b""),
        ),
        exclude=Matcher(["gone"]),
    )
    with tree.directory() as path, tree.directory() as again:
        assert path == again
        assert sorted(os.listdir(path)) == [".wh.x", "d", "l"]
        assert os.stat(path).st_mode & 0o7777 == 0o711
        status = os.stat(f"{path}/d/a")
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_nlink) == (0o640, 3, 4, 2)
        assert os.readlink(f"{path}/l") == "/etc/passwd"
        assert os.stat(f"{path}/d").st_mtime == 5
    tree.close()
    assert not os.path.exists(path)
