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
_ALIGNMENT = mmap.PAGESIZE
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
        whole = self._filled - self._filled % _ALIGNMENT
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
                if position % _ALIGNMENT and self._direct:
                    self._set_direct(False)
            view[: self._filled - length] = bytes(view[length : self._filled])
        self._filled -= length

    def _set_direct(self, wanted: bool) -> None:
        self._direct = _set_direct(self._fd, wanted)


class FileSource:
    """A file read from its start, through a descriptor that stays the caller's.

    Args:
        fd: the file; nobody else may read through this descriptor meanwhile.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._offset = 0
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
        # What follows a short read, which is the file's end, begins at no multiple of a page.
        if self._offset % _ALIGNMENT:
            _set_direct(self._fd, False)
        try:
            count = os.preadv(self._fd, [buffer], self._offset)
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
            _set_direct(self._fd, False)
            count = os.preadv(self._fd, [buffer], self._offset)
        self._begin, self._end = 0, count
        self._offset += count


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
