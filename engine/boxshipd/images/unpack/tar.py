"""A reader of tar streams: ustar, GNU and PAX, in one pass, with bounded memory.

Names are bytes, as the kernel has them. What the formats leave open is read as Go's archive/tar reads it, because that
is what wrote nearly every image: entries that have only a header carry no data whatever their size field says, and global PAX
headers are passed over. Source: POSIX pax(1); GNU tar manual, "Basic Tar Format"; libarchive tar(5).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from boxship.archive.tar_writer import byte_sum

from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.compression import CHUNK, Source
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.unpack.sparse import SparseMap, from_old_header, from_pax, read_numbers

BLOCK = 512
FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_ZERO = bytes(BLOCK)
_KINDS = frozenset({FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO})
_PAX_XATTR, _LIBARCHIVE_XATTR = b"SCHILY.xattr.", b"LIBARCHIVE.xattr."
_NO_XATTRS: dict[str, bytes] = {}
_Numbers = tuple[int, int, int, int, int]
# Numbers and checksum as GNU tar, Go and Python write them.
_PLAIN = re.compile(rb"([0-7]{7})\0([0-7]{7})\0([0-7]{7})\0([0-7]{11})[\0 ]([0-7]{11})[\0 ]([0-7]{6})\0 ").match


class Entry:
    """One member.

    Attributes:
        kind: one of this module's constants.
        size: the length of its data in the stream, in bytes.
        length: the length of the file it makes, holes included.
        mtime_ns: when it was last changed, in nanoseconds since the epoch.
        sparse: where its data goes, or None where there are no holes.
    """

    __slots__ = (
        "gid",
        "kind",
        "length",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "size",
        "sparse",
        "uid",
        "xattrs",
    )

    def __init__(self, kind: bytes, name: bytes) -> None:
        self.kind = kind
        self.name = name
        self.linkname = b""
        self.mode = self.uid = self.gid = 0
        self.size = self.length = 0
        self.mtime_ns = 0
        self.major = self.minor = 0
        self.xattrs = _NO_XATTRS
        self.sparse: SparseMap | None = None


class TarReader:
    """Iterate for the entries; ``data`` gives the present entry's content."""

    def __init__(self, source: Source, limits: Limits = DEFAULT_LIMITS) -> None:
        self._source = source
        self._limits = limits
        self._buffer = b""
        self._position = 0
        # Where in the stream the buffer begins.
        self._begins = 0
        # What is left of the present entry: data, then padding to the next block.
        self._left = 0
        self._padding = 0
        self.entries = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            self.entries += 1
            if self.entries > self._limits.entries:
                raise LimitExceeded(f"archive has more than {self._limits.entries} entries")
            yield entry

    @property
    def offset(self) -> int:
        """How far into the stream it has read: at an entry, where its data begins."""
        return self._begins + self._position

    def data(self) -> Iterator[memoryview]:
        """What is left of the present entry's content, in pieces that are valid until the next is asked for."""
        while self._left:
            if self._position == len(self._buffer):
                self._fill()
            piece = memoryview(self._buffer)[self._position : self._position + self._left]
            self._position += len(piece)
            self._left -= len(piece)
            yield piece

    def read_data(self, limit: int) -> bytes:
        """The present entry's whole content.

        Raises:
            LimitExceeded: it is longer than ``limit`` bytes.
        """
        if self._left > limit:
            raise LimitExceeded(f"archive member has {self._left} bytes, more than the {limit} allowed")
        return b"".join(self.data())

    def _more(self) -> bool:
        """Read on; whether there is anything."""
        self._begins += len(self._buffer)
        self._buffer = self._source.read(CHUNK)
        self._position = 0
        return bool(self._buffer)

    def _fill(self) -> None:
        if not self._more():
            raise InvalidArchive("unexpected EOF in archive")

    def _take(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        end = self._position + size
        if end <= len(self._buffer):
            out = self._buffer[self._position : end]
            self._position = end
            return out
        pieces = [self._buffer[self._position :]]
        missing = size - len(pieces[0])
        while missing:
            self._fill()
            pieces.append(self._buffer[:missing])
            self._position = len(pieces[-1])
            missing -= self._position
        return b"".join(pieces)

    def _skip_rest(self) -> None:
        """Go to the next header."""
        if self._left:
            for _ in self.data():
                pass
        if self._position + self._padding <= len(self._buffer):
            self._position += self._padding
            self._padding = 0
        # The last file's may be missing, as Go's reader has it: Docker's command line leaves it out of contexts that it
        # has put a Dockerfile into.
        while self._padding and (self._position < len(self._buffer) or self._more()):
            skipped = min(self._padding, len(self._buffer) - self._position)
            self._position += skipped
            self._padding -= skipped
        self._padding = 0

    def _begin_data(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _header(self) -> bytes | None:
        """The next header block, or None at the archive's end."""
        if self._position == len(self._buffer) and not self._more():
            return None
        block = self._take(BLOCK)
        if block == _ZERO:
            self._drain()
            return None
        return block

    def _drain(self) -> None:
        """Read what follows the archive's end: padding that belongs to the digest."""
        self._buffer = b""
        self._position = 0
        while self._source.read(CHUNK):
            pass

    def _special(self, size: int) -> bytes:
        """The content of an extended header or a long name."""
        if size > self._limits.header_bytes:
            raise LimitExceeded(
                f"archive has an extended header of {size} bytes, more than the {self._limits.header_bytes} allowed"
            )
        data = self._take(size)
        self._take(-size % BLOCK)
        return data

    def _next(self) -> Entry | None:
        """The next entry, with all extended headers that come before it applied."""
        self._skip_rest()
        long_name = long_link = None
        pax: list[tuple[bytes, bytes]] = []
        while (block := self._header()) is not None:
            numbers = _plain_numbers(block)
            if numbers is None:
                _check(block)
            kind = block[156:157]
            if kind in b"xgLK" and kind:
                content = self._special(_number(block, 124, 12))
                if kind == b"x":
                    pax = _records(content)
                elif kind == b"L":
                    long_name = content.partition(b"\0")[0]
                elif kind == b"K":
                    long_link = content.partition(b"\0")[0]
                continue
            return self._entry(block, kind, numbers or _numbers(block), long_name, long_link, pax)
        if long_name is not None or long_link is not None or pax:
            raise InvalidArchive("unexpected EOF in archive")
        return None

    def _entry(  # noqa: PLR0917 - everything that comes before an entry
        self,
        block: bytes,
        kind: bytes,
        numbers: _Numbers,
        long_name: bytes | None,
        long_link: bytes | None,
        pax: list[tuple[bytes, bytes]],
    ) -> Entry:
        """Make an entry of its header and its extended headers."""
        name = block[:100].partition(b"\0")[0]
        if block[257:263] == b"ustar\0" and block[345]:
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        entry = Entry(kind, long_name if long_name is not None else name)
        entry.linkname = long_link if long_link is not None else block[157:257].partition(b"\0")[0]
        mode, entry.uid, entry.gid, size, mtime = numbers
        entry.mode = mode & 0o7777
        entry.mtime_ns = mtime * 1_000_000_000
        sparse_records: dict[bytes, list[bytes]] = {}
        for key, value in pax:
            if key == b"size":
                size = _decimal(value, "size")
            elif key.startswith(b"GNU.sparse."):
                sparse_records.setdefault(key, []).append(value)
            else:
                _apply_pax(entry, key, value)
        if kind in (b"\0", b"7", b"S"):
            entry.kind = FILE
        if entry.kind == FILE and entry.name.endswith(b"/"):
            entry.kind = DIRECTORY
        if entry.kind not in _KINDS:
            raise InvalidArchive(f"archive entry {entry.name!r} is of unknown type {kind!r}")
        if entry.uid >= 0xFFFFFFFF or entry.gid >= 0xFFFFFFFF:
            raise InvalidArchive(f"archive entry {entry.name!r} has an impossible owner {entry.uid}:{entry.gid}")
        if entry.kind in (CHAR, BLOCK_DEVICE):
            entry.major, entry.minor = _number(block, 329, 8), _number(block, 337, 8)
        if entry.kind == FILE:
            self._begin_file(entry, block, kind, size, sparse_records)
        return entry

    def _begin_file(self, entry: Entry, block: bytes, kind: bytes, size: int, records: dict[bytes, list[bytes]]) -> None:
        """Find out where a file's data is and goes."""
        if size > self._limits.stream_bytes:
            raise LimitExceeded(
                f"archive entry {entry.name!r} has {size} bytes, more than the {self._limits.stream_bytes} allowed"
            )
        length = size
        if kind == b"S":
            entry.sparse, length = from_old_header(block, lambda: self._take(BLOCK))
            self._begin_data(size)
        elif records:
            self._begin_data(size)
            name, entry.sparse, length = from_pax(records, lambda: read_numbers(self._sparse_byte_block))
            entry.name = name or entry.name
        else:
            self._begin_data(size)
        entry.size, entry.length = self._left, length
        if length > self._limits.file_bytes:
            raise LimitExceeded(f"archive entry {entry.name!r} makes a file of {length} bytes")
        if entry.sparse is not None:
            entry.sparse.check(entry.size, length)

    def _sparse_byte_block(self) -> bytes:
        """The next block of a sparse map that is kept at the start of the data."""
        if self._left < BLOCK:
            raise InvalidArchive("archive has a sparse file whose map is cut short")
        self._left -= BLOCK
        return self._take(BLOCK)


def _plain_numbers(block: bytes) -> _Numbers | None:
    """Mode, owners, size and time of a header that has them as nearly all have, and whose checksum is right; else None."""
    found = _PLAIN(block, 100)
    if found is None:
        return None
    mode, uid, gid, size, mtime, stated = found.groups()
    if byte_sum(block) - sum(block[148:156]) + 256 != int(stated, 8):
        return None
    return int(mode, 8), int(uid, 8), int(gid, 8), int(size, 8), int(mtime, 8)


def _numbers(block: bytes) -> _Numbers:
    """Mode, owners, size and time of any header."""
    return (
        _number(block, 100, 8),
        _number(block, 108, 8),
        _number(block, 116, 8),
        _number(block, 124, 12),
        _number(block, 136, 12, signed=True),
    )


def _check(block: bytes) -> None:
    """Refuse a header whose checksum is wrong."""
    stated = _number(block, 148, 8)
    total = byte_sum(block) - sum(block[148:156]) + 256
    if total != stated and total - 256 * sum(1 for b in block[:148] + block[156:] if b > 127) != stated:
        raise InvalidArchive("invalid tar header: wrong checksum")


def _number(block: bytes, start: int, width: int, *, signed: bool = False) -> int:
    """A numeric field: octal text, or base 256 where the first bit is set."""
    field = block[start : start + width]
    # Nearly every field is digits and a terminator.
    digits = field.rstrip(b"\0 ")
    if digits.isdigit() and b"8" not in digits and b"9" not in digits:
        return int(digits, 8)
    if field[0] & 0x80:
        value = (
            int.from_bytes(field, "big", signed=True)
            if field[0] == 0xFF
            else int.from_bytes(field, "big") & ~(0x80 << (8 * width - 8))
        )
    else:
        text = field.partition(b"\0")[0].strip(b" ")
        try:
            value = int(text, 8) if text else 0
        except ValueError:
            raise InvalidArchive(f"invalid tar header: no number at offset {start}") from None
    if value < 0 and not signed:
        raise InvalidArchive(f"invalid tar header: negative number {value}")
    return value


def _decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 20:
        raise InvalidArchive(f"invalid PAX record: {what}={value[:40]!r}")
    return int(value)


def _records(content: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a PAX header, ``"%d %s=%s\\n"``."""
    records: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(content) and content[position]:
        space = content.find(b" ", position, position + 21)
        if space < 0:
            raise InvalidArchive("invalid PAX header: record without a length")
        end = position + _decimal(content[position:space], "length")
        if end > len(content) or end <= space + 1 or content[end - 1] != 0x0A:
            raise InvalidArchive("invalid PAX header: record of a wrong length")
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise InvalidArchive("invalid PAX header: record without a key")
        records.append((key, value))
        position = end
    return records


def _apply_pax(entry: Entry, key: bytes, value: bytes) -> None:
    """Apply one record; keys that say nothing about what is unpacked are passed over."""
    if key == b"path":
        entry.name = value
    elif key == b"linkpath":
        entry.linkname = value
    elif key == b"uid":
        entry.uid = _decimal(value, "uid")
    elif key == b"gid":
        entry.gid = _decimal(value, "gid")
    elif key == b"mtime":
        entry.mtime_ns = _nanoseconds(value)
    elif key.startswith(_PAX_XATTR):
        entry.xattrs = {**entry.xattrs, _xattr_name(key[len(_PAX_XATTR) :]): value}
    elif key.startswith(_LIBARCHIVE_XATTR):
        name = _xattr_name(key[len(_LIBARCHIVE_XATTR) :])
        try:
            entry.xattrs = {name: base64.b64decode(value + b"=" * (-len(value) % 4), validate=True), **entry.xattrs}
        except binascii.Error as error:
            raise InvalidArchive(f"invalid PAX record for extended attribute {name}: {error}") from error


def _xattr_name(name: bytes) -> str:
    if not name or b"\0" in name:
        raise InvalidArchive(f"invalid PAX record: extended attribute {name!r}")
    return name.decode("utf-8", "surrogateescape")


def _nanoseconds(value: bytes) -> int:
    """A decimal number of seconds, exactly."""
    seconds, _, fraction = value.partition(b".")
    negative = seconds.startswith(b"-")
    whole = _decimal(seconds.removeprefix(b"-") or b"0", "mtime") * 1_000_000_000
    if fraction:
        whole += _decimal(fraction[:9].ljust(9, b"0"), "mtime")
    return -whole if negative else whole
