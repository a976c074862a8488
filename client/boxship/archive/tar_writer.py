"""Tar headers: ustar, with PAX records where that isn't enough, as Go's archive/tar writes them.

Source: POSIX pax(1); GNU tar manual, "PAX Format, Versions 1.0" for sparse files.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

BLOCK = 512
END = bytes(2 * BLOCK)
"""What ends an archive."""

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_EXTENDED = b"x"
_MAX_OCTAL_SIZE = 0o77777777777
_MAX_OCTAL_ID = 0o7777777
_NO_XATTRS: Mapping[str, bytes] = {}


def header(
    kind: bytes,
    name: bytes,
    *,
    mode: int = 0,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: Mapping[str, bytes] = _NO_XATTRS,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """A member's header blocks.

    Args:
        kind: one of this module's constants.
        name: its path in the archive; a directory's ends in a slash.
        mode: permissions.
        uid, gid: its owner.
        size: bytes of data that follow.
        mtime: in seconds since the epoch.
        linkname: where a link leads.
        device: major and minor number.
        xattrs: extended attributes.
        more: further PAX records.
    """
    records = list(more)
    short_name = _fit(b"path", name, records)
    short_link = _fit(b"linkpath", linkname, records)
    if size > _MAX_OCTAL_SIZE:
        records.append((b"size", b"%d" % size))
    if uid > _MAX_OCTAL_ID:
        records.append((b"uid", b"%d" % uid))
    if gid > _MAX_OCTAL_ID:
        records.append((b"gid", b"%d" % gid))
    if mtime < 0 or mtime > _MAX_OCTAL_SIZE:
        records.append((b"mtime", b"%d" % mtime))
    records.extend((b"SCHILY.xattr." + key.encode("utf-8", "surrogateescape"), xattrs[key]) for key in sorted(xattrs))
    block = _block(kind, short_name, mode, uid, gid, size, mtime, short_link, device)
    return _extended(short_name, records) + block if records else block


def padding(size: int) -> bytes:
    """What follows ``size`` bytes of data up to the next block."""
    return bytes(-size % BLOCK)


def sparse_map(fragments: Sequence[tuple[int, int]]) -> bytes:
    """The map that comes before a sparse file's data: offset and length of each piece of it."""
    lines = [b"%d\n" % len(fragments), *(b"%d\n%d\n" % fragment for fragment in fragments)]
    text = b"".join(lines)
    return text + padding(len(text))


def sparse_records(name: bytes, length: int) -> tuple[tuple[bytes, bytes], ...]:
    """The PAX records of a sparse file of ``length`` bytes, holes included."""
    return (
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % length),
    )


def _fit(key: bytes, text: bytes, records: list[tuple[bytes, bytes]]) -> bytes:
    """A name as far as the header has room for it; the whole of it goes into a record where that isn't enough."""
    if len(text) <= 100 and text.isascii():
        return text
    records.append((key, text))
    return text[:100]


def _extended(name: bytes, records: Sequence[tuple[bytes, bytes]]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records)
    above, _, last = name.rstrip(b"/").rpartition(b"/")
    shown = (above + b"/PaxHeaders.0/" + last if above else b"PaxHeaders.0/" + last)[:100]
    return _block(_EXTENDED, shown, 0, 0, 0, len(body), 0, b"", (0, 0)) + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """A record begins with its own length, which counts its digits too."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def _block(  # noqa: PLR0917 - a field of the header each
    kind: bytes, name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, linkname: bytes, device: tuple[int, int]
) -> bytes:
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0%07o\0%07o\0" % (mode & 0o7777, _or_none(uid, _MAX_OCTAL_ID), _or_none(gid, _MAX_OCTAL_ID)),
            b"%011o\0%011o\0" % (_or_none(size, _MAX_OCTAL_SIZE), _or_none(mtime, _MAX_OCTAL_SIZE)),
            b"        ",
            kind,
            linkname.ljust(100, b"\0"),
            b"ustar\00000",
            bytes(64),
            b"%07o\0%07o\0" % device,
            bytes(167),
        )
    )
    return block[:148] + b"%06o\0 " % byte_sum(block) + block[156:]


def byte_sum(block: bytes) -> int:
    """The sum of a header block's bytes."""
    # Adler's first half is the sum plus one, modulo 65521, which no 512 bytes of ASCII reach: a tenth of the time of adding up.
    return (zlib.adler32(block) & 0xFFFF) - 1 if block.isascii() else sum(block)


def _or_none(number: int, largest: int) -> int:
    """A number that fits in its field; 0 where a record has it instead."""
    return number if 0 <= number <= largest else 0
