"""A place in a log that outlives the connection and the daemon, so that a follower can go on where it was.

It names a file by its inode number, which rotation and compression keep, and by a checksum of its first bytes, since numbers
are used again; and the offset in it.
"""

from __future__ import annotations

import zlib

from boxshipd.errors import InvalidParameter
from boxshipd.logs.files import LogFile

BEGINNING = "0.0.0"
"""The place before everything."""

_SAMPLE = 64
"""Bytes of the file's beginning that the checksum is made of; with an entry's time among them they are like no other's."""


def cursor(file: LogFile) -> str:
    """Where the reader of ``file`` is."""
    return f"{file.inode:x}.{file.position:x}.{_checksum(file, file.position):x}"


def seek(files: list[LogFile], text: str) -> None:
    """Leave in ``files`` what comes after the place ``text``; all of them where its file has been rotated away.

    Raises:
        InvalidParameter: ``text`` is no place.
    """
    try:
        inode, position, checksum = (int(word, 16) for word in text.split("."))
    except ValueError:
        raise InvalidParameter(f"invalid position in a log: {text!r}") from None
    for index in range(len(files) - 1, -1, -1):
        file = files[index]
        if file.inode == inode and file.size() >= position and _checksum(file, position) == checksum:
            file.position = position
            for older in files[:index]:
                older.close()
            del files[:index]
            return


def _checksum(file: LogFile, position: int) -> int:
    return zlib.crc32(file.read_at(0, min(_SAMPLE, position)))
