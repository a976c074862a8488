"""Writing and reading big files around the page cache.

What is written once and not read soon would only push out what others need, and filling fresh pages costs more processor time
than all else that is done to a layer. Where the file system can't do it, this writes and reads as always; and what is in the
cache is read from there.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from boxshipd.images.unpack.limits import MIB

_BUFFER = MIB
# Every file system takes offsets, lengths and addresses that are multiples of a page.
ALIGNMENT = mmap.PAGESIZE
_REFUSED = (errno.EINVAL, errno.EOPNOTSUPP)


class DirectWriter:
    """Appends to an open, empty file, which stays the caller's. ``flush`` at the end.

    Args:
        fd: the file, at its beginning.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = mmap.mmap(-1, _BUFFER)
        self._filled = 0
        self._direct: bool | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Append."""
        rest = memoryview(data)
        while rest:
            count = min(len(rest), _BUFFER - self._filled)
            self._buffer[self._filled : self._filled + count] = rest[:count]
            self._filled += count
            rest = rest[count:]
            if self._filled == _BUFFER:
                self._write_out(_BUFFER)

    def flush(self) -> None:
        """Write what is left, and let go of the buffer. Nothing may be written afterwards."""
        whole = self._filled - self._filled % ALIGNMENT
        if self._direct and whole:
            self._write_out(whole)
        self._set_direct(False)
        self._write_out(self._filled)
        self._buffer.close()

    def _write_out(self, length: int) -> None:
        """Write the buffer's beginning, and move what follows there."""
        if self._direct is None:
            self._set_direct(True)
        with memoryview(self._buffer) as view:
            position = 0
            while position < length:
                try:
                    position += os.write(self._fd, view[position:length])
                except OSError as error:
                    if not self._direct or error.errno not in _REFUSED:
                        raise
                    self._set_direct(False)
                # After a short write nothing is aligned any more.
                if position % ALIGNMENT and self._direct:
                    self._set_direct(False)
            view[: self._filled - length] = bytes(view[length : self._filled])
        self._filled -= length

    def _set_direct(self, wanted: bool) -> None:
        self._direct = _set_direct(self._fd, wanted)


class Run:
    """Bytes that follow one another in a file, on their way there by whole buffers.

    Args:
        fd: the file, for parts of pages.
        direct: the same file around the page cache.
        offset: where they begin, a multiple of ``ALIGNMENT``.

    Attributes:
        start: where in the file what is in the buffer belongs.
        end: where the next byte belongs.
        taken: somebody is writing to it.
    """

    def __init__(self, fd: int, direct: int, offset: int) -> None:
        self._fd = fd
        self._direct = direct
        self._buffer = mmap.mmap(-1, _BUFFER)
        self.start = self.end = offset
        self.taken = False

    def write(self, data: memoryview) -> None:
        """Append."""
        while data:
            filled = self.end - self.start
            count = min(len(data), _BUFFER - filled)
            self._buffer[filled : filled + count] = data[:count]
            self.end += count
            data = data[count:]
            if self.end - self.start == _BUFFER:
                self._write_out(self._direct)

    def flush(self) -> None:
        """Write what is in the buffer, and let go of it. Nothing may be written afterwards."""
        if self.end > self.start:
            self._write_out(self._fd)
        self._buffer.close()

    def _write_out(self, fd: int) -> None:
        with memoryview(self._buffer)[: self.end - self.start] as whole:
            position = 0
            while position < len(whole):
                try:
                    position += os.pwrite(fd, whole[position:], self.start + position)
                except OSError as error:
                    if fd == self._fd or error.errno not in _REFUSED:
                        raise
                    fd = self._fd
                if position % ALIGNMENT:
                    fd = self._fd
        self.start = self.end


def open_direct(path: str) -> int | None:
    """A file for writing around the page cache; None where its file system can't."""
    try:
        return os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return None


class FileSource:
    """A file read through a descriptor that stays the caller's.

    Args:
        fd: the file; nobody else may read through this descriptor meanwhile.
        offset: where to begin.
    """

    def __init__(self, fd: int, offset: int = 0) -> None:
        self._fd = fd
        self._offset = offset
        self._buffer: mmap.mmap | None = None
        self._begin = self._end = 0
        if os.fstat(fd).st_size >= _BUFFER and not _is_cached(fd) and _set_direct(fd, True):
            self._buffer = mmap.mmap(-1, _BUFFER)

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        if self._begin == self._end:
            if self._buffer is None:
                data = os.pread(self._fd, size, self._offset)
                self._offset += len(data)
                return data
            self._fill(self._buffer)
        assert self._buffer is not None
        data = self._buffer[self._begin : min(self._end, self._begin + size)]
        self._begin += len(data)
        return data

    def _fill(self, buffer: mmap.mmap) -> None:
        # Reading begins at a multiple of a page, before what is wanted if need be.
        skipped = self._offset % ALIGNMENT
        try:
            count = os.preadv(self._fd, [buffer], self._offset - skipped)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            _set_direct(self._fd, False)
            count = os.preadv(self._fd, [buffer], self._offset - skipped)
        self._begin, self._end = min(skipped, count), count
        self._offset += self._end - self._begin


def _is_cached(fd: int) -> bool:
    """Whether a file's beginning is in the page cache; the rest is taken to be so as well."""
    try:
        return bool(os.preadv(fd, [bytearray(1)], 0, os.RWF_NOWAIT))
    except OSError:
        return False


def _set_direct(fd: int, wanted: bool) -> bool:
    """Have a descriptor go around the page cache, or not; whether it does."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
    except OSError as error:
        if not wanted or error.errno not in _REFUSED:
            raise
        return False
    return wanted
