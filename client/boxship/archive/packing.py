"""Local files as a tar stream."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from boxship.archive import tar_writer
from boxship.archive.places import split
from boxship.errors import CommandError

_CHUNK = 1 << 20
_BATCH = 256 * 1024
_HOLES_FROM = 1 << 20
_KINDS = {
    stat.S_IFDIR: tar_writer.DIRECTORY,
    stat.S_IFLNK: tar_writer.SYMLINK,
    stat.S_IFIFO: tar_writer.FIFO,
    stat.S_IFCHR: tar_writer.CHAR,
    stat.S_IFBLK: tar_writer.BLOCK_DEVICE,
}

Keep = Callable[[str, bool], bool | None]
"""Whether a path below the top is packed; it is told whether that is a directory. None: nor is anything below it."""
Owner = tuple[int, int]


def pack(path: str, name: str = "", *, keep: Keep | None = None, owner: Owner | None = None) -> Iterator[bytes]:
    """A file or a directory with all that is in it, as an archive.

    Args:
        path: what to pack; where it ends with ``/.`` members' names begin with ``.``.
        name: what it is called in the archive, by default the path's last part.
        keep: says which paths below the top are packed, all by default.
        owner: whose everything is to be, by default who has it.

    Raises:
        CommandError: something can't be read.
    """
    waiting: list[bytes] = []
    length = 0
    try:
        for piece in _Packing(owner, keep).members(path, name or split(path)[1]):
            waiting.append(piece)
            length += len(piece)
            if length >= _BATCH:
                yield b"".join(waiting)
                waiting, length = [], 0
    except OSError as error:
        raise CommandError(f"read {error.filename or path}: {(error.strerror or str(error)).lower()}") from error
    yield b"".join((*waiting, tar_writer.END))


class _Packing:
    """One archive in the making."""

    def __init__(self, owner: Owner | None, keep: Keep | None) -> None:
        self._owner = owner
        self._keep = keep
        self._links: dict[tuple[int, int], str] = {}

    def members(self, top: str, top_name: str) -> Iterator[bytes]:
        pending = [(top, "" if top_name == "/" else top_name, "")]
        while pending:
            path, name, below = pending.pop()
            status = os.lstat(path)
            directory = stat.S_ISDIR(status.st_mode)
            kept = self._keep(below, directory) if below and self._keep else True
            if directory and kept is not None:
                if kept:
                    yield self._header(path, status, f"{name}/")
                names = sorted(os.listdir(path), reverse=True)
                inside = f"{below}/" if below else ""
                pending.extend((os.path.join(path, each), f"{name}/{each}", f"{inside}{each}") for each in names)
            elif not kept:
                continue
            elif stat.S_ISREG(status.st_mode):
                yield from self._file(path, name)
            elif not stat.S_ISSOCK(status.st_mode):
                yield self._header(path, status, name)

    def _file(self, path: str, name: str) -> Iterator[bytes]:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CommandError(f"read {path}: it has changed meanwhile")
            if (status.st_dev, status.st_ino) in self._links:
                yield self._header(path, status, name)
                return
            size = status.st_size
            if status.st_blocks * 512 + _HOLES_FROM < size:
                fragments = _fragments(fd, size)
                mapped = tar_writer.sparse_map(fragments)
                total = len(mapped) + sum(length for _, length in fragments)
                yield self._header(path, status, name, total, tar_writer.sparse_records(os.fsencode(name), size))
                yield mapped
            else:
                fragments, total = [(0, size)], size
                yield self._header(path, status, name, size)
            for offset, length in fragments:
                yield from _data(fd, offset, length)
            if end := tar_writer.padding(total):
                yield end
        finally:
            os.close(fd)

    def _header(
        self, path: str, status: os.stat_result, name: str, size: int = 0, more: Sequence[tuple[bytes, bytes]] = ()
    ) -> bytes:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), tar_writer.FILE)
        link = ""
        if kind != tar_writer.DIRECTORY and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                kind, link, size, more = tar_writer.LINK, first, 0, ()
        if kind == tar_writer.SYMLINK:
            link = os.readlink(path)
        devices = kind in (tar_writer.CHAR, tar_writer.BLOCK_DEVICE)
        uid, gid = self._owner or (status.st_uid, status.st_gid)
        return tar_writer.header(
            kind,
            os.fsencode(name),
            mode=status.st_mode & 0o7777,
            uid=uid,
            gid=gid,
            size=size,
            mtime=int(status.st_mtime),
            linkname=os.fsencode(link),
            device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if devices else (0, 0),
            more=more,
        )


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
