"""Copying an image's directory into a volume."""

from __future__ import annotations

import errno
import os
import stat

import pytest
from boxshipd.volumes.content import CopyError, change_mode, fill, fill_shared, inside, is_empty, link_again, move_into


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


def copy(source, destination):
    destination.mkdir(exist_ok=True)
    fd = os.open(source, os.O_RDONLY)
    try:
        fill(fd, str(destination))
    finally:
        os.close(fd)


def test_files_keep_what_they_have(source, tmp_path):
    (source / "file").write_bytes(b"text" * 1000)
    (source / "file").chmod(0o4751)
    os.utime(source / "file", ns=(1_000_000_000, 2_123_456_789))
    os.setxattr(source / "file", "user.note", b"kept")
    (source / "link").symlink_to("/nowhere/at/all")
    os.utime(source / "link", ns=(3_000_000_000, 4_000_000_000), follow_symlinks=False)
    (source / "directory" / "below").mkdir(parents=True)
    (source / "directory" / "below" / "x").write_text("x")
    (source / "directory").chmod(0o1770)
    os.mkfifo(source / "pipe", 0o640)
    source.chmod(0o750)
    os.utime(source, ns=(5_000_000_000, 6_000_000_000))
    out = tmp_path / "out"
    copy(source, out)
    file = os.lstat(out / "file")
    assert (out / "file").read_bytes() == b"text" * 1000
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns) == (0o4751, 2_123_456_789)
    assert os.getxattr(out / "file", "user.note") == b"kept"
    assert (out / "link").readlink().as_posix() == "/nowhere/at/all"
    assert os.lstat(out / "link").st_mtime_ns == 4_000_000_000
    assert (out / "directory" / "below" / "x").read_text() == "x"
    assert stat.S_IMODE(os.lstat(out / "directory").st_mode) == 0o1770
    assert stat.S_ISFIFO(os.lstat(out / "pipe").st_mode)
    assert (stat.S_IMODE(os.lstat(out).st_mode), os.lstat(out).st_mtime_ns) == (0o750, 6_000_000_000)


def test_names_of_one_file_stay_names_of_one_file(source, tmp_path):
    (source / "a").write_text("one")
    (source / "b").mkdir()
    os.link(source / "a", source / "b" / "c")
    copy(source, tmp_path / "out")
    first, second = os.lstat(tmp_path / "out" / "a"), os.lstat(tmp_path / "out" / "b" / "c")
    assert (first.st_ino, first.st_nlink) == (second.st_ino, 2)


def test_holes_stay_holes(source, tmp_path):
    size = 1 << 30
    with open(source / "sparse", "wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"middle")
    copy(source, tmp_path / "out")
    found = os.stat(tmp_path / "out" / "sparse")
    assert found.st_size == size
    assert found.st_blocks * 512 < 1 << 20
    with open(tmp_path / "out" / "sparse", "rb") as file:
        file.seek(size // 2)
        assert file.read(7) == b"middle\0"


def test_a_path_stays_inside_the_root(tmp_path):
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "inside").touch()
    (root / "up").symlink_to("../../../../../../etc")
    (root / "absolute").symlink_to("/etc")
    (root / "circle").symlink_to("circle")
    (root / "file").touch()
    fd = os.open(root, os.O_PATH)
    try:
        for path in ("/../../etc", "up", "absolute", "/etc/../../../etc"):
            with inside(fd, path) as found:
                assert found is not None
                assert os.listdir(found) == ["inside"]
        for path in ("/nothing", "circle", "/nothing/../etc"):
            with inside(fd, path) as found:
                assert found is None
        with pytest.raises(NotADirectoryError), inside(fd, "file"):
            pass
    finally:
        os.close(fd)


def test_what_others_use_is_filled_at_once_or_not_at_all(source, tmp_path):
    (source / "a").write_text("a")
    (source / "b").mkdir(mode=0o700)
    source.chmod(0o711)
    used = tmp_path / "used"
    used.mkdir()
    opened = os.open(used, os.O_RDONLY)
    fd = os.open(source, os.O_RDONLY)
    try:
        fill_shared(fd, str(used))
        assert sorted(os.listdir(opened)) == ["a", "b"]
        assert stat.S_IMODE(os.fstat(opened).st_mode) == 0o711
    finally:
        os.close(fd)
        os.close(opened)


def test_moving_never_replaces_what_came_meanwhile(source, tmp_path):
    (source / "a").mkdir()
    used = tmp_path / "used"
    (used / "a").mkdir(parents=True)
    (used / "a" / "mine").touch()
    with pytest.raises(CopyError, match="not empty"):
        move_into(str(source), str(used))
    assert os.listdir(used / "a") == ["mine"]


def test_directories_that_are_nested_too_deep_are_an_error(source, tmp_path):
    fd = os.open(source, os.O_RDONLY)
    for _ in range(500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(CopyError, match=r"nested too deep|Too many open files"):
        copy(source, tmp_path / "out")
    # No recursion of its own may be needed to get rid of either.
    from boxshipd.images.unpack.removal import remove_tree

    remove_tree(str(source))
    remove_tree(str(tmp_path / "out"))


def test_a_full_disk_is_named(source, tmp_path, monkeypatch):
    (source / "file").write_text("x")

    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(CopyError, match="file: No space left on device"):
        copy(source, tmp_path / "out")


def test_links_that_come_in_the_way_are_not_followed(tmp_path):
    """What somebody with access to the destination may do between two steps of a copy."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("host")
    before = (tmp_path / "host" / "secret").stat()
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "sub").symlink_to("../host")
    (copied / "pipe").symlink_to("../host/secret")
    fd = os.open(copied, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            link_again(fd, "sub/secret", fd, "again")
        os.mkfifo(tmp_path / "pipe", 0o666)
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            change_mode(fd, "pipe", os.lstat(tmp_path / "pipe"))
    finally:
        os.close(fd)
    after = (tmp_path / "host" / "secret").stat()
    assert (after.st_nlink, after.st_mode) == (before.st_nlink, before.st_mode)


def test_empty(tmp_path):
    assert is_empty(str(tmp_path))
    assert is_empty(str(tmp_path / "nothing"))
    (tmp_path / "x").touch()
    assert not is_empty(str(tmp_path))
