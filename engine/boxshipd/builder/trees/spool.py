"""A file without a name that a stream is kept in, to be read from by anybody at any place."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from errno import EISDIR, ENOENT, EOPNOTSUPP
from typing import TYPE_CHECKING

from boxshipd.images.unpack.compression import Source

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_WITHOUT = frozenset({EOPNOTSUPP, EISDIR, ENOENT})


class Spool:
    """The file; it is gone when it is closed, and after a crash.

    Args:
        directory: whose file system it is on.
        shared: a descriptor of another one's file, which is to be this one's as well.
    """

    def __init__(self, directory: str, shared: int = -1) -> None:
        if shared >= 0:
            self._fd = shared
            return
        try:
            self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _WITHOUT or not os.path.isdir(directory):
                raise
            # A file system without unnamed files.
            self._fd, path = tempfile.mkstemp(dir=directory)
            os.unlink(path)

    @property
    def is_open(self) -> bool:
        """Whether it is."""
        return self._fd >= 0

    def share(self) -> Spool:
        """The same file, closed when this one and that one are."""
        return Spool("", os.dup(self._fd))

    def append(self, data: bytes) -> None:
        """Write at the end."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def read(self, offset: int, length: int) -> bytes:
        """What is at a place, which may be read at the same time as others'."""
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Kept:
    """A source that is kept as it is read.

    Args:
        source: what is read.
        spool: where to.
        check: called for each piece; it may raise to end the work.
    """

    def __init__(self, source: Source, spool: Spool, check: Callable[[], None]) -> None:
        self._source = source
        self._spool = spool
        self._check = check

    def read(self, size: int, /) -> bytes:
        """As the source's."""
        self._check()
        data = self._source.read(size)
        self._spool.append(data)
        return data


class Section(io.RawIOBase):
    """A file that is in a spool, perhaps in pieces with holes between them.

    Args:
        spool: where it is.
        start: where its data begins there.
        extents: offset in the file and length of each piece of data, in order; they follow one another in the spool.
        length: the file's, holes included.
    """

    def __init__(self, spool: Spool, start: int, extents: Sequence[tuple[int, int]], length: int) -> None:
        super().__init__()
        self._spool = spool
        self._extents: list[tuple[int, int, int]] = []
        for offset, count in extents:
            self._extents.append((offset, count, start))
            start += count
        self._length = length
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As any file's."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As any file's."""
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), max(0, self._length - self._position))
        place, available = self._place(self._position)
        count = min(wanted, available)
        if place < 0:
            view[:count] = bytes(count)
        else:
            data = self._spool.read(place, count)
            count = len(data)
            view[:count] = data
        self._position += count
        return count

    def _place(self, position: int) -> tuple[int, int]:
        """Where in the spool a place of the file is, -1 for a hole, and how many bytes go on there."""
        for offset, count, start in self._extents:
            if position < offset:
                return -1, offset - position
            if position < offset + count:
                return start + position - offset, offset + count - position
        return -1, self._length - position


def pieces(spool: Spool, offset: int, length: int, step: int) -> Iterator[bytes]:
    """Bytes that follow one another in a spool."""
    while length:
        data = spool.read(offset, min(step, length))
        if not data:
            return
        offset += len(data)
        length -= len(data)
        yield data
