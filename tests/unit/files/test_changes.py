"""What an overlay's directories say has changed."""

import io
import os
import stat

import pytest
from boxship.archive import tar_writer
from boxshipd.errors import InternalError
from boxshipd.files.changes import ADDED, DELETED, MODIFIED, Lowers, changes
from boxshipd.files.ids import Owners
from boxshipd.files.layer import write_layer
from boxshipd.images.unpack.tar import TarReader

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="makes whiteouts")

OPAQUE = "trusted.overlay.opaque"


def whiteout(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(0, 0))


@pytest.fixture
def layers(tmp_path):
    for name in ("upper", "top", "bottom"):
        (tmp_path / name).mkdir()
    for name in ("etc", "home", "deep/er"):
        (tmp_path / "bottom" / name).mkdir(parents=True)
    (tmp_path / "bottom/etc/passwd").write_text("root")
    (tmp_path / "bottom/etc/group").write_text("root")
    (tmp_path / "bottom/home/old").write_text("x")
    (tmp_path / "bottom/deep/er/f").write_text("x")
    (tmp_path / "top/deep").mkdir()
    os.setxattr(tmp_path / "top/deep", OPAQUE, b"y")
    return tmp_path


def same(upper, lower):
    upper.mkdir(parents=True, exist_ok=True)
    status = lower.stat()
    os.utime(upper, ns=(status.st_mtime_ns, status.st_mtime_ns))


def found(layers):
    return [
        (c.path, c.kind) for c in changes(str(layers / "upper"), [str(layers / "top"), str(layers / "bottom")], lambda: None)
    ]


def test_nothing(layers):
    assert found(layers) == []


def test_each_kind(layers):
    upper = layers / "upper"
    (upper / "new/below").mkdir(parents=True)
    (upper / "etc").mkdir()
    (upper / "etc/passwd").write_text("changed")
    whiteout(upper / "etc/group")
    same(upper / "etc", layers / "bottom/etc")
    assert found(layers) == [
        ("/etc", MODIFIED),
        ("/etc/group", DELETED),
        ("/etc/passwd", MODIFIED),
        ("/new", ADDED),
        ("/new/below", ADDED),
    ]


def test_a_directory_made_again_hides_what_was_in_it(layers):
    (layers / "upper/home").mkdir()
    os.setxattr(layers / "upper/home", OPAQUE, b"y")
    (layers / "upper/home/new").touch()
    assert found(layers) == [("/home", MODIFIED), ("/home/old", DELETED), ("/home/new", ADDED)]


def test_a_layer_hides_those_below_it(layers):
    with Lowers([str(layers / "top"), str(layers / "bottom")]) as lowers:
        assert lowers.find(b"deep") is not None
        assert lowers.find(b"deep/er") is None
        assert lowers.find(b"etc/passwd") is not None
    (layers / "upper/deep/er").mkdir(parents=True)
    assert ("/deep/er", ADDED) in found(layers)


def test_links_in_layers_are_not_followed(layers):
    os.symlink("/etc", layers / "bottom/link")
    with Lowers([str(layers / "bottom")]) as lowers:
        assert lowers.find(b"link/passwd") is None
        assert stat.S_ISLNK(lowers.find(b"link").st_mode)


def test_a_layers_archive(layers):
    upper = layers / "upper"
    (upper / "etc").mkdir()
    whiteout(upper / "etc/group")
    for name in ("home", "brandnew"):
        (upper / name).mkdir()
        os.setxattr(upper / name, OPAQUE, b"y")
    (upper / "home/new").write_text("hello")
    os.setxattr(upper / "home/new", "user.note", b"kept")

    def archive():
        lower = [str(layers / "top"), str(layers / "bottom")]
        return b"".join(write_layer(str(upper), lower, Owners(), lambda: None)) + tar_writer.END

    entries = list(TarReader(io.BytesIO(archive())))
    assert [entry.name for entry in entries] == [
        b"brandnew/",
        b"etc/",
        b"etc/.wh.group",
        b"home/",
        b"home/.wh..wh..opq",
        b"home/new",
    ]
    assert entries[-1].xattrs == {"user.note": b"kept"}
    assert all("overlay" not in key for entry in entries for key in entry.xattrs)
    assert archive() == archive()


@pytest.mark.parametrize(("name", "attribute"), [("moved", "redirect"), ("file", "metacopy")])
def test_references_to_layers_below_are_refused_by_name(layers, name, attribute):
    path = layers / "upper" / name
    path.mkdir() if name == "moved" else path.touch()
    os.setxattr(path, f"trusted.overlay.{attribute}", b"x")
    with pytest.raises(InternalError, match=f"/{name} has trusted.overlay.{attribute}"):
        list(write_layer(str(layers / "upper"), [], Owners(), lambda: None))
