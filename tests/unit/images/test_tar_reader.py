import io
import random
import subprocess
import tarfile

import pytest
from boxship.archive.tar_writer import byte_sum
from boxshipd.images.errors import HostileOrBroken, InvalidArchive, LimitExceeded
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tar import TarReader
from hypothesis import given
from hypothesis import strategies as st
from support.archives import member, tar


def read(data: bytes, limits: Limits = Limits()):  # noqa: B008
    reader = TarReader(io.BytesIO(data), limits)
    return [(entry, b"".join(reader.data())) for entry in reader]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_three_formats(form):
    archive = tar(
        member("d", tarfile.DIRTYPE, mode=0o1777, mtime=7),
        (member("d/f", uid=1000, gid=1001, mode=0o4755), b"content" * 100),
        member("d/l", tarfile.SYMTYPE, linkname="../x"),
        member("d/h", tarfile.LNKTYPE, linkname="d/f"),
        member("d/c", tarfile.CHRTYPE, devmajor=5, devminor=1),
        form=form,
    )
    directory, file, link, hard, node = read(archive)
    assert (directory[0].kind, directory[0].mode, directory[0].mtime_ns) == (b"5", 0o1777, 7 * 10**9)
    assert (file[0].name, file[0].uid, file[0].gid, file[0].mode, file[1]) == (b"d/f", 1000, 1001, 0o4755, b"content" * 100)
    assert (link[0].kind, link[0].linkname) == (b"2", b"../x")
    assert (hard[0].kind, hard[0].linkname) == (b"1", b"d/f")
    assert (node[0].major, node[0].minor) == (5, 1)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_large_numbers(form):
    name, target = "n/" * 200 + "x", "t" * 300
    entry = read(tar(member(name, tarfile.SYMTYPE, linkname=target, uid=3_000_000, mtime=2**34), form=form))[0][0]
    assert (entry.name.decode(), entry.linkname.decode(), entry.uid, entry.mtime_ns) == (name, target, 3_000_000, 2**34 * 10**9)


def test_fractions_of_a_second_are_exact():
    entry = read(tar(member("f", pax_headers={"mtime": "1700000000.123456789"})))[0][0]
    assert entry.mtime_ns == 1700000000_123456789


def test_extended_attributes_are_bytes():
    headers = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x02", "LIBARCHIVE.xattr.user.b": "AAE"}
    entry = read(tar(member("f", pax_headers=headers)))[0][0]
    assert entry.xattrs == {"user.a": b"1", "security.capability": b"\x01\x02", "user.b": b"\x00\x01"}


def test_agrees_with_the_standard_library_on_what_gnu_tar_writes(tmp_path):
    source = tmp_path / "s"
    source.mkdir()
    with open(source / "holes", "wb") as file:
        file.write(b"a" * 5000)
        file.seek(1 << 20)
        file.write(b"b" * 5000)
        for n in range(2, 40):
            file.seek(n << 20)
            file.write(b"c")
        file.truncate(64 << 20)
    for form in ("gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"):
        made = subprocess.run(
            ["tar", "-C", str(source), "-S", *f"-c --format={form} .".split()], check=True, capture_output=True
        )
        found = {entry.name: (entry, data) for entry, data in read(made.stdout)}
        entry, data = found[b"./holes"]
        assert entry.length == 64 << 20, form
        rebuilt = bytearray(entry.length)
        position = 0
        for offset, count in entry.sparse.fragments:
            rebuilt[offset : offset + count] = data[position : position + count]
            position += count
        assert rebuilt == (source / "holes").read_bytes(), form


@pytest.mark.parametrize("cut", [1, 511, 513, 600, 1023])
def test_an_archive_cut_short_is_refused(cut):
    archive = tar((member("f"), b"x" * 600))
    with pytest.raises(InvalidArchive):
        read(archive[:cut])


def test_an_archive_without_its_end_is_whole():
    assert len(read(tar((member("f"), b"x" * 512))[:1024])) == 1


def test_a_wrong_checksum_is_refused():
    archive = bytearray(tar(member("f")))
    archive[0] ^= 1
    with pytest.raises(InvalidArchive, match="checksum"):
        read(bytes(archive))


def test_a_giant_header_is_refused_before_it_is_read():
    archive = bytearray(tar(member("f", pax_headers={"comment": "x"})))
    archive[124:136] = b"77777777777\0"
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    with pytest.raises(LimitExceeded, match="extended header"):
        read(bytes(archive))


def test_too_many_entries_are_refused():
    with pytest.raises(LimitExceeded, match="more than 3 entries"):
        read(tar(*(member(f"f{n}") for n in range(4))), Limits(entries=3))


@pytest.mark.parametrize(
    "headers",
    [
        {"GNU.sparse.map": "0,10,5,10", "GNU.sparse.size": "100"},
        {"GNU.sparse.map": "0,1000", "GNU.sparse.size": "10"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "100"},
        {"GNU.sparse.map": "x", "GNU.sparse.size": "100"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99999999999999999999"},
        {"uid": "4294967295"},
        {"uid": "-1"},
        {"SCHILY.xattr.": "x"},
    ],
)
def test_impossible_headers_are_refused(headers):
    with pytest.raises(HostileOrBroken):
        read(tar((member("f", pax_headers=headers), b"0123456789" * 2)))


@given(st.binary(max_size=2000), st.integers(0, 1500))
def test_garbage_never_does_anything_but_raise(noise, position):
    archive = bytearray(tar((member("a" * 120, uid=9, pax_headers={"SCHILY.xattr.user.x": "y"}), b"data")))
    archive[position : position + len(noise)] = noise
    try:
        read(bytes(archive))
    except HostileOrBroken:
        return


@pytest.mark.parametrize("top", [2, 128, 256])
def test_the_sum_of_a_blocks_bytes(top):
    source = random.Random(top)
    for _ in range(200):
        block = bytes(source.randrange(top) for _ in range(512))
        assert byte_sum(block) == sum(block)
    assert byte_sum(bytes([top - 1]) * 512) == 512 * (top - 1)


def test_where_an_entrys_data_begins():
    archive = tar((member("a"), b"a" * 700), (member("b" * 300), b"second"), (member("c"), b"third"))
    reader = TarReader(io.BytesIO(archive))
    found = [archive[reader.offset :][: entry.size] for entry in reader]
    assert found == [b"a" * 700, b"second", b"third"]
