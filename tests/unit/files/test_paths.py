"""Paths that clients name, in a root that tries to mislead."""

import os
import stat

import pytest
from boxshipd.errors import NotFound
from boxshipd.files.lookup import Root, absolute, base_name


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("/a/b", "/a/b"),
        ("a/b/", "/a/b/"),
        ("/a/.", "/a/."),
        (".", "/"),
        ("/", "/"),
        ("../../etc", "/etc"),
        ("/a/../../b/.", "/b/."),
        ("//a", "/a"),
        ("/a/./b//c", "/a/b/c"),
    ],
)
def test_a_path_from_the_root(given, meant):
    assert absolute(given) == meant


@pytest.mark.parametrize(("path", "name"), [("/", "/"), ("/a", "a"), ("/a/", "a"), ("/a/.", ".")])
def test_its_last_part(path, name):
    assert base_name(path) == name


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/file").write_text("inside")
    (tmp_path / "secret").write_text("outside")
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    yield Root(fd, "c")
    os.close(fd)


def link(tmp_path, target, name):
    os.symlink(target, tmp_path / "root" / name)


@pytest.mark.parametrize(
    ("target", "destination"),
    [
        ("/etc/file", "/etc/file"),
        ("etc/../etc/file", "/etc/file"),
        ("/nowhere/at/all", "/nowhere/at/all"),
        ("../../../secret", "/secret"),
        ("loop", "/loop"),
    ],
)
def test_where_a_link_leads_is_told_inside_the_root(root, tmp_path, target, destination):
    link(tmp_path, target, "loop" if target == "loop" else "l")
    name = "/loop" if target == "loop" else "/l"
    fd = root.open(name)
    assert root.describe(name, fd).link_target == destination
    os.close(fd)


@pytest.mark.parametrize("target", ["../../secret", "/secret", "/proc/self/root/secret", "/../../../../tmp"])
def test_no_link_leads_out(root, tmp_path, target):
    link(tmp_path, target, "l")
    with pytest.raises(NotFound, match="Could not find the file /l in container c"):
        root.open("/l", follow=True)


def test_goes_modes(root, tmp_path):
    os.chmod(tmp_path / "root/etc/file", 0o4751)
    os.mkfifo(tmp_path / "root/pipe", 0o600)
    os.chmod(tmp_path / "root/etc", 0o1777)
    link(tmp_path, "x", "l")

    def mode(path):
        fd = root.open(path)
        try:
            return root.describe(path, fd).mode
        finally:
            os.close(fd)

    assert mode("/etc/file") == 1 << 23 | 0o751
    assert mode("/etc") == 1 << 31 | 1 << 20 | 0o777
    assert mode("/pipe") == 1 << 25 | 0o600
    assert mode("/l") == 1 << 27 | 0o777
    assert stat.S_ISREG(os.stat(tmp_path / "secret").st_mode)
