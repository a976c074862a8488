"""Local files as a tar stream."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from boxship.archive.places import split
from boxship.errors import CommandError

_CHUNK = 1 << 20
_BLOCK = 512
_BATCH = 256 * 1024
_HOLES_FROM = 1 << 20
_KINDS = {
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
}


def pack(path: str, name: str = "") -> Iterator[bytes]:
    """A file or a directory with all that is in it, as an archive.

    Args:
        path: what to pack; where it ends with ``/.`` members' names begin with ``.``.
        name: what it is called in the archive, by default the path's last part.

    Raises:
        CommandError: something can't be read.
    """
    waiting: list[bytes] = []
    length = 0
    try:
        for piece in _members(path, name or split(path)[1], {}):
            waiting.append(piece)
            length += len(piece)
            if length >= _BATCH:
                yield b"".join(waiting)
                waiting, length = [], 0
    except OSError as error:
        raise CommandError(f"read {error.filename or path}: {(error.strerror or str(error)).lower()}") from error
    yield b"".join((*waiting, bytes(2 * _BLOCK)))


def _members(top: str, top_name: str, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    pending = [(top, "" if top_name == "/" else top_name)]
    while pending:
        path, name = pending.pop()
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            yield _header(path, status, f"{name}/", links)
            pending.extend((os.path.join(path, below), f"{name}/{below}") for below in sorted(os.listdir(path), reverse=True))
        elif stat.S_ISREG(status.st_mode):
            yield from _file(path, name, links)
        elif not stat.S_ISSOCK(status.st_mode):
            yield _header(path, status, name, links)


def _file(path: str, name: str, links: dict[tuple[int, int], str]) -> Iterator[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CommandError(f"read {path}: it has changed meanwhile")
        first = links.get((status.st_dev, status.st_ino))
        if first is not None:
            yield _header(path, status, name, links)
            return
        info = _info(path, status, name, links)
        fragments = [(0, status.st_size)]
        total = status.st_size
        mapped = b""
        if status.st_blocks * 512 + _HOLES_FROM < status.st_size:
            fragments = _fragments(fd, status.st_size)
            mapped = _map(fragments)
            total = len(mapped) + sum(size for _, size in fragments)
            info.pax_headers = {
                "GNU.sparse.major": "1",
                "GNU.sparse.minor": "0",
                "GNU.sparse.name": name,
                "GNU.sparse.realsize": str(status.st_size),
            }
        info.size = total
        yield _encoded(info)
        yield mapped
        for offset, size in fragments:
            yield from _data(fd, offset, size)
        yield bytes(-total % _BLOCK)
    finally:
        os.close(fd)


def _data(fd: int, offset: int, size: int) -> Iterator[bytes]:
    """As many bytes as were announced; a file that has become shorter ends with zeros."""
    while size:
        piece = os.pread(fd, min(size, _CHUNK), offset) or bytes(min(size, _CHUNK))
        offset += len(piece)
        size -= len(piece)
        yield piece


def _fragments(fd: int, size: int) -> list[tuple[int, int]]:
    """Where a file has data."""
    found: list[tuple[int, int]] = []
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:
            break
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        found.append((start, offset - start))
    if not found or sum(found[-1]) < size:
        # GNU tar takes the last piece's end for the file's.
        found.append((size, 0))
    return found


def _map(fragments: list[tuple[int, int]]) -> bytes:
    text = f"{len(fragments)}\n" + "".join(f"{offset}\n{size}\n" for offset, size in fragments)
    return text.encode() + bytes(-len(text) % _BLOCK)


def _info(path: str, status: os.stat_result, name: str, links: dict[tuple[int, int], str]) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = status.st_mode & 0o7777
    info.uid, info.gid = status.st_uid, status.st_gid
    info.mtime = int(status.st_mtime)
    info.type = _KINDS.get(stat.S_IFMT(status.st_mode), tarfile.REGTYPE)
    if info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if info.type != tarfile.DIRTYPE and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            info.type, info.linkname = tarfile.LNKTYPE, first
    if info.type == tarfile.SYMTYPE:
        info.linkname = os.readlink(path)
    return info


def _header(path: str, status: os.stat_result, name: str, links: dict[tuple[int, int], str]) -> bytes:
    return _encoded(_info(path, status, name, links))


def _encoded(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
