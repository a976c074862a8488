"""Compressed streams: told by their first bytes, never by their name, and decompressed a bounded piece at a time.

No program is ever run for it, and no single read can expand beyond what was asked for.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Iterator
from typing import IO, Protocol, cast

import zstandard
from isal import igzip_lib, isal_zlib

from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.limits import MIB, Limits

CHUNK = 256 * 1024
_GZIP, _ZSTD, _XZ, _BZIP2 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"
_MAGIC_LENGTH = 6
# The package's stub declares an instance where the class is meant.
_INFLATE_ERROR = cast(type[Exception], igzip_lib.IsalError)
# The window zstd's --ultra -22 uses; --long=31 would ask for 2 GiB of memory.
_ZSTD_WINDOW = 128 * MIB
_XZ_MEMORY = 128 * MIB


class Source(Protocol):
    """Something bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...


class _Inflate:
    """isal's decompressor with bz2's interface: it keeps what it hasn't used."""

    def __init__(self) -> None:
        self._inner = isal_zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._inner.decompress(self._inner.unconsumed_tail + data, max_length))


class _Members:
    """A stream of compressed members one after the other, as gzip, bzip2 and xz allow."""

    def __init__(self, source: Source, kind: str) -> None:
        self._source = source
        self._kind = kind
        self._decoder: _Inflate | bz2.BZ2Decompressor | lzma.LZMADecompressor = self._new()
        # Compressed bytes that were read but belong to the next member.
        self._pending = b""
        self._ended = False

    def _new(self) -> _Inflate | bz2.BZ2Decompressor | lzma.LZMADecompressor:
        if self._kind == "gzip":
            return _Inflate()
        if self._kind == "bzip2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def read(self, size: int, /) -> bytes:
        try:
            return self._read(size)
        except (_INFLATE_ERROR, OSError, lzma.LZMAError, EOFError) as error:
            raise InvalidArchive(f"decompress {self._kind} stream: {error}") from error

    def _read(self, size: int) -> bytes:
        while not self._ended:
            decoder = self._decoder
            if decoder.eof:
                self._next_member(decoder.unused_data)
                continue
            data = b""
            if decoder.needs_input:
                data, self._pending = self._pending or self._source.read(CHUNK), b""
                if not data:
                    raise InvalidArchive(f"decompress {self._kind} stream: unexpected EOF")
            if out := decoder.decompress(data, size):
                return out
        return b""

    def _next_member(self, rest: bytes) -> None:
        """Go on with the next member; zeros to the end are padding."""
        while not (rest := rest.lstrip(b"\0")):
            rest = self._source.read(CHUNK)
            if not rest:
                self._ended = True
                return
        self._decoder = self._new()
        self._pending = rest


class _Zstd:
    """A zstd stream of any number of frames."""

    def __init__(self, source: Source) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = decompressor.stream_reader(cast(IO[bytes], _Readable(source)), read_size=CHUNK, read_across_frames=True)

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except zstandard.ZstdError as error:
            raise InvalidArchive(f"decompress zstd stream: {error}") from error


class _Readable:
    """A source in the shape zstandard wants: the size has a default."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int = CHUNK, /) -> bytes:
        return self._source.read(size)


class Prepended:
    """A source whose first bytes have already been read."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        """The head first, then what follows."""
        if self._head:
            out, self._head = self._head[:size], self._head[size:]
            return out
        return self._source.read(size)


class Chunks:
    """A source made of pieces that somebody else makes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        """The next bytes; a piece that is empty isn't the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        out, self._rest = self._rest[:size], self._rest[size:]
        return out


class Counted:
    """A source that counts what passes.

    Attributes:
        count: bytes read so far.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int, /) -> bytes:
        """As the source's."""
        data = self._source.read(size)
        self.count += len(data)
        return data


class Bounded:
    """A decompressed source that refuses to grow beyond all measure."""

    def __init__(self, source: Source, compressed: Counted, limits: Limits) -> None:
        self._source = source
        self._compressed = compressed
        self._limits = limits
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """As the source's.

        Raises:
            LimitExceeded: the stream is too long, or a decompression bomb.
        """
        data = self._source.read(size)
        self._count += len(data)
        if self._count > self._limits.stream_bytes:
            raise LimitExceeded(f"archive is longer than {self._limits.stream_bytes} bytes uncompressed")
        if self._count > self._limits.ratio_from and self._count > self._compressed.count * self._limits.ratio:
            raise LimitExceeded(f"archive expands more than {self._limits.ratio} times")
        return data


def detect(head: bytes) -> str:
    """The compression that begins so: ``gzip``, ``zstd``, ``xz``, ``bzip2``, or ``""`` for none."""
    if head.startswith(_GZIP):
        return "gzip"
    # A skippable frame (0x184D2A50 to 5F) may come before the first real one.
    if head.startswith(_ZSTD) or (head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F):
        return "zstd"
    if head.startswith(_XZ):
        return "xz"
    return "bzip2" if head.startswith(_BZIP2) else ""


def decompressed(source: Source, limits: Limits) -> tuple[str, Source]:
    """Open a stream whatever its compression: the compression's name and the plain, bounded stream."""
    head = b""
    while len(head) < _MAGIC_LENGTH and (more := source.read(CHUNK)):
        head += more
    counted = Counted(Prepended(head, source))
    kind = detect(head)
    if not kind:
        return kind, Bounded(counted, counted, limits)
    plain: Source = _Zstd(counted) if kind == "zstd" else _Members(counted, kind)
    return kind, Bounded(plain, counted, limits)
