"""Layers that are looked into without being mounted, and directories."""

import os
import tarfile
from contextlib import closing

import pytest
from boxshipd.builder.trees.directory import DirectoryTree
from boxshipd.builder.trees.paths import walk
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.errors import InternalError, InvalidParameter
from support.archives import member
from support.build_files import directory, hard_link, link


@pytest.fixture
def layers(bench):
    low = bench.base(
        directory("a", mode=0o711, uid=3),
        (member("a/low"), b"low"),
        (member("a/over"), b"low"),
        directory("a/hidden"),
        (member("a/hidden/x"), b"x"),
        directory("b/deep/er"),
        (member("b/deep/er/x"), b"x"),
        (member("gone"), b""),
        link("way", "/a"),
        (member("becomes"), b"file"),
    )
    middle = bench.base(
        (member("a/over"), b"over"),
        (member("a/.wh.hidden"), b""),
        (member("b/.wh..wh..opq"), b""),
        (member("b/other"), b"o"),
        (member(".wh.gone"), b""),
        directory("becomes"),
        (member("becomes/y"), b"y"),
        below=low,
    )
    return bench.base((member("b/deep/new"), b"n"), hard_link("b/deep/same", "b/deep/new"), below=middle)


def test_layers_are_seen_as_one(bench, layers):
    with closing(bench.tree(layers)) as tree:
        assert [os.fsdecode(entry.path) for entry in walk(tree, b"")] == [
            "a",
            "a/low",
            "a/over",
            "b",
            "b/deep",
            "b/deep/new",
            "b/deep/same",
            "b/other",
            "becomes",
            "becomes/y",
            "way",
        ]
        for path in ("gone", "a/hidden", "a/hidden/x", "b/deep/er", "b/deep/er/x", "a/low/x", "way/low"):
            assert tree.entry(path.encode()) is None
            assert list(tree.children(path.encode())) == []
        assert {entry.path: entry for entry in tree.children(b"b/deep")} == {
            path: tree.entry(path) for path in (b"b/deep/new", b"b/deep/same")
        }
        assert (tree.entry(b"a").mode, tree.entry(b"a").uid) == (0o711, 3)
        assert tree.entry(b"").kind == "directory"
        with tree.open(tree.entry(b"a/over")) as file:
            assert file.read() == b"over"
        assert tree.resolve(b"/way/../way/low") == b"a/low"
        assert tree.entry(b"b/deep/new").inode == tree.entry(b"b/deep/same").inode != 0


def test_they_are_what_the_kernel_shows(bench, layers, tmp_path):
    """An overlay of the same directories has the same names in it."""
    place = tmp_path / "mounted"
    place.mkdir()
    directories = ":".join(bench.layers.directories(layers))
    assert (
        os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={directories}", str(place)) == 0
    )
    try:
        shown = sorted(
            os.path.relpath(os.path.join(where, name), place)
            for where, inner, names in os.walk(place)
            for name in (*inner, *names)
        )
    finally:
        assert os.spawnlp(os.P_WAIT, "umount", "umount", str(place)) == 0
    with closing(bench.tree(layers)) as tree:
        assert sorted(os.fsdecode(entry.path) for entry in walk(tree, b"")) == shown


def test_the_same_files_have_the_same_digest(bench, layers):
    context = bench.context(
        directory("d", mode=0o711), (member("d/x", mtime=9), b"x"), link("l", "d/x"), member("p", tarfile.FIFOTYPE)
    )
    layered = bench.base(
        (member("d/x"), b"x"),
        below=bench.base(directory("d", mode=0o711), (member("d/x"), b"old"), link("l", "d/x"), member("p", tarfile.FIFOTYPE)),
    )
    with closing(bench.tree(layered)) as tree, context.directory() as path:
        assert tree.digest == context.digest
        with closing(DirectoryTree(path)) as plain:
            assert plain.digest == context.digest
    with closing(bench.tree(layers)) as tree:
        assert tree.digest != context.digest


def test_only_one_layer_is_a_directory(bench, layers):
    one = bench.base((member("x"), b""))
    with closing(bench.tree(one)) as tree, tree.directory() as path:
        assert os.listdir(path) == ["x"]
    with closing(bench.tree(layers)) as tree, pytest.raises(InternalError):
        tree.directory()
    with closing(SnapshotTree(())) as tree:
        assert list(tree.children(b"")) == []
        assert tree.resolve(b"/a/../b") == b"b"


def test_links_in_a_circle_end(bench):
    tree = bench.context(link("a", "b"), link("b", "a"))
    with pytest.raises(InvalidParameter, match="too many symbolic links on the way to /a/x"):
        tree.resolve(b"a/x")


def test_a_directory_is_removed_with_its_tree(tmp_path):
    work = tmp_path / "work"
    (work / "tree").mkdir(parents=True)
    (work / "tree" / "file").write_bytes(b"f")
    (work / "outside").write_bytes(b"o")
    (work / "tree" / "up").symlink_to("../outside")
    tree = DirectoryTree(str(work / "tree"), remove=str(work))
    assert [entry.path for entry in tree.children(b"")] == [b"file", b"up"]
    assert tree.entry(tree.resolve(b"up")) is None
    with pytest.raises(OSError, match="cross-device"):
        tree.entry(b"../outside")
    for path in (b"x" * 5000, b"x/" * 3000, b"file\0x", b"file/x"):
        assert tree.entry(path) is None
    with tree.directory() as path:
        assert path == str(work / "tree")
    tree.close()
    assert not work.exists()
    tree.close()
