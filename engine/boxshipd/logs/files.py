"""A log's files: the rotated ones from oldest to newest, and how reading goes on from one to the next.

A reader holds the file it reads by descriptor, so a rotation takes nothing from it; where it goes on is found by inode number,
since the names move on with every rotation.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tempfile
import zlib
from typing import IO

from boxrun.shim.logs import GZIP_HEAD

logger = logging.getLogger(__name__)


class LogFile:
    """One file of a log, open for reading at its start.

    A compressed one is unpacked into a file without a name first: reading backwards needs offsets.

    Attributes:
        inode: what the file is known by; of a compressed one, the inode number it had before.
    """

    def __init__(self, path: str, *, compressed: bool) -> None:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close(); the reader outlives this block
        if compressed:
            with file:
                self.inode = _original_inode(file)
                unpacked = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                try:
                    shutil.copyfileobj(gzip.GzipFile(fileobj=file), unpacked, 1 << 20)
                except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                    # What could be unpacked is still the log's.
                    logger.warning("log file %s is damaged: %s", path, error)
                except BaseException:
                    unpacked.close()
                    raise
                self._file = unpacked
        else:
            self.inode = os.fstat(file.fileno()).st_ino
            self._file = file
        self.position = 0

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes from ``position`` on, which moves with them; empty at the present end."""
        data = os.pread(self._file.fileno(), size, self.position)
        self.position += len(data)
        return data

    def read_at(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset``; ``position`` stays."""
        return os.pread(self._file.fileno(), size, offset)

    def begins_with(self, sample: bytes) -> bool:
        """Whether the file still begins as it did: it doesn't where it was truncated and written anew."""
        return self.read_at(0, len(sample)) == sample

    def size(self) -> int:
        """Bytes the file has now."""
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _original_inode(file: IO[bytes]) -> int:
    """The number of the file that a compressed one was made of; its own where the head is damaged."""
    head = file.read(GZIP_HEAD.size)
    file.seek(0)
    if len(head) == GZIP_HEAD.size:
        magic, *_, subfield, _, inode = GZIP_HEAD.unpack(head)
        if magic == b"\x1f\x8b\x08\x04" and subfield == b"BX":
            return int(inode)
    return os.fstat(file.fileno()).st_ino


def candidates(path: str, max_files: int) -> list[tuple[str, bool]]:
    """The names a log's files may have, newest first, each with whether it is compressed."""
    names = [(path, False)]
    for number in range(1, max(max_files, 1)):
        names += [(f"{path}.{number}", False), (f"{path}.{number}.gz", True)]
    return names


def open_all(path: str, max_files: int) -> list[LogFile]:
    """Open every file of a log, oldest first. A rotation meanwhile is noticed and the opening begun again."""
    while True:
        files: list[LogFile] = []
        for name, compressed in candidates(path, max_files):
            try:
                files.append(LogFile(name, compressed=compressed))
            except FileNotFoundError:
                continue
        # Every rotation makes a new file at `path`, and the number of one held open isn't used again.
        if files and _inode(path) == files[0].inode:
            return files[::-1]
        for file in files:
            file.close()
        if _inode(path) == 0:
            return []


def open_after(path: str, max_files: int, inode: int) -> list[LogFile]:
    """Open the files newer than the one with ``inode``, oldest first; all where that one is gone. The caller holds it open."""
    files = open_all(path, max_files)
    for index in range(len(files) - 1, -1, -1):
        # From the newest: a compressed file may bear a number that has been used again since.
        if files[index].inode == inode:
            for older in files[: index + 1]:
                older.close()
            return files[index + 1 :]
    return files


def rotated(path: str, inode: int) -> bool:
    """Whether the newest file is another one than the one with ``inode``."""
    current = _inode(path)
    return current not in (0, inode)


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
