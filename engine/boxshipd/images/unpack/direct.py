"""Writing big files around the page cache.

What is written once and not read soon would only push out what others need, and filling fresh pages costs more processor time
than all else that is done to a layer. Where the file system can't do it, this writes as always.
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
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
        except OSError as error:
            if not wanted or error.errno not in _REFUSED:
                raise
            wanted = False
        self._direct = wanted
