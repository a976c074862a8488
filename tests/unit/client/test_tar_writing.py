"""What we write, others read: Python's tarfile, GNU tar, and our own reader."""

import io
import os
import subprocess
import tarfile

import pytest
from boxship.archive import tar_writer
from boxshipd.files.ids import Owners
from boxshipd.files.pack import Packer, Walk, batched
from boxshipd.images.unpack.tar import TarReader


def packed(path, name=b"t", **options):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return b"".join(batched(Packer(Owners(), lambda: None).tree(fd, name, **options)))
    finally:
        os.close(fd)


def names(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return opened.getnames()


@pytest.mark.parametrize(
    "name",
    [b"a", b"a" * 100, b"a" * 101, b"d/" * 80 + b"f", "ä".encode(), b"\xff\xfe", b"x" * 255, b"with space\n"],
    ids=repr,
)
def test_any_name_is_read_back(name):
    block = tar_writer.header(tar_writer.FILE, name, size=0, mode=0o640, uid=1, gid=2, mtime=3) + tar_writer.END
    (entry,) = TarReader(io.BytesIO(block))
    assert (entry.name, entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (name, 0o640, 1, 2, 3 * 10**9)
    with tarfile.open(fileobj=io.BytesIO(block)) as opened:
        assert os.fsencode(opened.getmembers()[0].name) == name


def test_numbers_too_large_for_their_fields():
    size = 9 << 30
    block = tar_writer.header(tar_writer.FILE, b"f", size=size, uid=1 << 24, gid=1 << 30, mtime=-5)
    info = tarfile.TarInfo()
    with tarfile.open(fileobj=io.BytesIO(block)) as opened:
        info = opened.next()
    assert (info.size, info.uid, info.gid, info.mtime) == (size, 1 << 24, 1 << 30, -5)


def test_extended_attributes_and_links():
    block = tar_writer.header(tar_writer.FILE, b"f", xattrs={"user.b": b"\0\xff", "user.a": b"1"})
    block += tar_writer.header(tar_writer.SYMLINK, b"l", linkname=b"t" * 300) + tar_writer.END
    file, link = TarReader(io.BytesIO(block))
    assert file.xattrs == {"user.a": b"1", "user.b": b"\0\xff"}
    assert link.linkname == b"t" * 300


def test_a_tree_in_the_order_of_its_names(tmp_path):
    for name in ("b/z", "b/a", "a.txt", "a/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    os.symlink("nowhere", tmp_path / "c")
    os.link(tmp_path / "a.txt", tmp_path / "d")
    archive = packed(tmp_path)
    assert names(archive) == ["t", "t/a", "t/a/x", "t/a.txt", "t/b", "t/b/a", "t/b/z", "t/c", "t/d"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert opened.getmember("t/d").linkname == "t/a.txt"
        assert opened.extractfile("t/b/a").read() == b"b/a"
        assert opened.getmember("t/c").linkname == "nowhere"
    assert packed(tmp_path) == archive


def test_the_root_keeps_its_slash_and_an_export_has_none(tmp_path):
    (tmp_path / "f").touch()
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    packer = Packer(Owners(), lambda: None)
    root = b"".join(packer.tree(fd, b""))
    bare = b"".join(packer.tree(fd, b"", itself=False))
    os.close(fd)
    assert [entry.name for entry in TarReader(io.BytesIO(root + tar_writer.END))] == [b"/", b"/f"]
    assert [entry.name for entry in TarReader(io.BytesIO(bare + tar_writer.END))] == [b"f"]


@pytest.mark.parametrize("read", ["python", "gnu", "ours"])
def test_holes_stay_holes(tmp_path, read):
    source = tmp_path / "s"
    source.mkdir()
    with open(source / "f", "wb") as file:
        file.write(b"begin")
        file.seek(64 << 20)
        file.write(b"middle")
        file.truncate(200 << 20)
    archive = packed(source)
    assert len(archive) < 1 << 20
    if read == "python":
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            info = opened.getmember("t/f")
            assert info.issparse()
            assert info.size == 200 << 20
            file = opened.extractfile(info)
            file.seek(64 << 20)
            assert file.read(6) == b"middle"
    elif read == "gnu":
        out = tmp_path / "out"
        out.mkdir()
        subprocess.run(["tar", "xf", "-", "-C", out], input=archive, check=True)
        assert subprocess.run(["cmp", source / "f", out / "t/f"], check=False).returncode == 0
    else:
        entry = next(entry for entry in TarReader(io.BytesIO(archive)) if entry.name == b"t/f")
        assert entry.length == 200 << 20


def test_deep_trees_need_few_descriptors(tmp_path):
    deep = os.open(tmp_path, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=deep))
    os.close(deep)
    before = len(os.listdir("/proc/self/fd"))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    walk = Walk(fd)
    most = count = 0
    for own, path in walk:
        count += 1
        if not path.endswith(b"f"):
            walk.enter()
        most = max(most, len(os.listdir("/proc/self/fd")))
        assert os.fstat(own)
    walk.close()
    os.close(fd)
    assert count == 601
    assert most - before < 60
    assert len(os.listdir("/proc/self/fd")) == before


def test_walking_back_up_from_the_depth(tmp_path):
    path = tmp_path
    for level in range(70):
        (path / "z").touch()
        (path / "a").mkdir()
        path = path / "a"
        if level > 60:
            (path / "last").touch()
    archive = packed(tmp_path)
    assert sum(name.endswith("/z") for name in names(archive)) == 70


def test_a_file_that_shrinks_meanwhile_keeps_its_announced_length(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * (3 << 20))
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    pieces = Packer(Owners(), lambda: None).tree(fd, b"t")
    taken = [next(pieces), next(pieces), next(pieces)]
    os.truncate(tmp_path / "f", 10)
    archive = b"".join((*taken, *pieces, tar_writer.END))
    os.close(fd)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert len(opened.extractfile("t/f").read()) == 3 << 20


def test_owners_of_a_user_namespace():
    from boxrun.container.spec import IDMapping

    owners = Owners((IDMapping(inside=0, outside=100000, size=1000),), (IDMapping(inside=0, outside=200000, size=1000),))
    assert owners.inside(100005, 200006) == (5, 6)
    assert owners.inside(5, 6) == (65534, 65534)
    assert owners.outside(5, 6) == (100005, 200006)
    assert owners.outside(70000, 6) == (100000, 200006)
