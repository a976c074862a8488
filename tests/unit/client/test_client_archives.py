"""Local files into archives, archives into local files, and where both go."""

from __future__ import annotations

import os
import tarfile

import pytest
from boxship.archive import places
from boxship.archive.packing import pack
from boxship.archive.places import Place, Plan
from boxship.archive.unpacking import Pieces, unpack
from boxship.errors import CommandError
from support.archives import files, member, tar

FILE = Place("/s/f", True, False)
DIRECTORY = Place("/s/d", True, True)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (FILE, Place("/t", True, True), Plan("/t")),
        (FILE, Place("/t/x", True, False), Plan("/t", "f", "x")),
        (FILE, Place("/t/x", False, False), Plan("/t", "f", "x")),
        (DIRECTORY, Place("/t/x", False, False), Plan("/t", "d", "x")),
        (DIRECTORY, Place("/t/x/", False, False), Plan("/t", "d", "x")),
        (Place("/s/d/.", True, True), Place("/t/x", False, False), Plan("/t", ".", "x")),
        (Place("/s/f", True, False, "link"), Place("/t/x", False, False), Plan("/t", "link", "x")),
    ],
)
def test_where_things_go(source, target, expected):
    assert places.plan(source, target) == expected


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (DIRECTORY, Place("/t/x", True, False), "cannot copy directory"),
        (FILE, Place("/t/x/", False, False), "no such directory"),
        (FILE, Place("/t/.", False, False), "no such directory"),
    ],
)
def test_where_they_cannot_go(source, target, message):
    with pytest.raises(CommandError, match=message):
        places.plan(source, target)


def extracted(tmp_path, archive, plan=None):
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    unpack(Pieces(iter([archive[:700], archive[700:]])), plan or Plan(str(out)))
    return out


def test_there_and_back(tmp_path):
    source = tmp_path / "s"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_text("content")
    os.chmod(source / "d/f", 0o640)
    os.link(source / "d/f", source / "hard")
    os.symlink("d/f", source / "soft")
    os.utime(source / "d/f", (5, 5))
    out = extracted(tmp_path, b"".join(pack(str(source))))
    assert (out / "s/d/f").read_text() == "content"
    assert (out / "s/d/f").stat().st_mode & 0o777 == 0o640
    assert (out / "s/d/f").stat().st_mtime == 5
    assert (out / "s/hard").stat().st_ino == (out / "s/d/f").stat().st_ino
    assert os.readlink(out / "s/soft") == "d/f"


def test_new_names(tmp_path):
    link = member("s/h", tarfile.LNKTYPE, linkname="s/f")
    archive = tar(member("s", tarfile.DIRTYPE), (member("s/f"), b"1"), link)
    out = tmp_path / "out"
    extracted(tmp_path, archive, Plan(str(out), "s", "new"))
    assert sorted(os.listdir(out)) == ["new"]
    assert (out / "new/h").stat().st_nlink == 2
    dotted = tar(member("./", tarfile.DIRTYPE), (member("./f"), b"2"))
    extracted(tmp_path, dotted, Plan(str(out), ".", "other"))
    assert (out / "other/f").read_bytes() == b"2"


def test_holes_stay_holes(tmp_path):
    with open(tmp_path / "f", "wb") as file:
        file.truncate(256 << 20)
        file.seek(128 << 20)
        file.write(b"middle")
    archive = b"".join(pack(str(tmp_path / "f")))
    assert len(archive) < 1 << 20
    out = extracted(tmp_path, archive)
    status = (out / "f").stat()
    assert status.st_size == 256 << 20
    assert status.st_blocks < 10_000


@pytest.mark.parametrize(
    "entries",
    [
        [(member("../escaped"), b"x")],
        [(member("/../escaped"), b"x")],
        [(member("a/../../escaped"), b"x")],
        [member("l", tarfile.SYMTYPE, linkname="{outside}"), (member("l/escaped"), b"x")],
        [member("l", tarfile.SYMTYPE, linkname=".."), (member("l/escaped"), b"x")],
        [member("l", tarfile.SYMTYPE, linkname="{outside}"), member("l/escaped", tarfile.DIRTYPE)],
        [member("h", tarfile.LNKTYPE, linkname="../outside/secret")],
        [member("l", tarfile.SYMTYPE, linkname="{outside}"), member("h", tarfile.LNKTYPE, linkname="l/secret")],
    ],
    ids=range(8),
)
def test_no_member_leads_out(tmp_path, entries):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    for entry in entries:
        info = entry[0] if isinstance(entry, tuple) else entry
        info.linkname = info.linkname.format(outside=outside)
    with pytest.raises(CommandError):
        extracted(tmp_path, tar(*entries))
    assert sorted(os.listdir(tmp_path)) == ["out", "outside"]
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_file_is_not_written_through_a_link_that_is_there(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "secret").write_text("secret")
    os.symlink(tmp_path / "secret", tmp_path / "out/f")
    out = extracted(tmp_path, files(f=b"new"))
    assert (tmp_path / "secret").read_text() == "secret"
    assert (out / "f").read_bytes() == b"new"
    assert not (out / "f").is_symlink()


@pytest.mark.parametrize("archive", [b"", b"nothing of the kind" * 100, files(f=b"x" * 3000)[:1500]], ids=range(3))
def test_what_is_no_archive(tmp_path, archive):
    if archive:
        with pytest.raises(CommandError):
            extracted(tmp_path, archive)
        assert not (tmp_path / "out/f").exists()
    else:
        with pytest.raises(CommandError, match="can't be read"):
            extracted(tmp_path, archive)


def test_pieces():
    pieces = Pieces(iter([b"abc", b"", b"de"]))
    assert [pieces.read(2), pieces.read(2), pieces.read(9), pieces.read(1)] == [b"ab", b"c", b"de", b""]
    assert pieces.count == 5
