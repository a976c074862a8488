"""Trees that are on the disk: directories, alone or as the layers of a file system."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from boxshipd.builder.results import Entry, Kind, Tree
from boxshipd.builder.trees.digest import tree_digest
from boxshipd.builder.trees.paths import follow, join, shown
from boxshipd.errors import InternalError
from boxshipd.files.changes import Lowers
from boxshipd.files.pack import data_extents, read_xattrs
from boxshipd.images.unpack.tree import is_whiteout

_PIECE = 1 << 20
_KINDS: dict[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


class DiskTree(Tree):
    """Directories that are looked into by descriptors, never outside, and without following links.

    Args:
        directories: the directories, topmost first.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._lowers = Lowers(directories)
        self._checksums: dict[bytes, str] = {}
        # Where files were found: most are read soon after.
        self._layers: dict[bytes, int] = {}
        self._digest = ""

    @property
    def digest(self) -> str:
        """As the base's."""
        if not self._digest:
            self._digest = tree_digest(self)
        return self._digest

    def entry(self, path: bytes) -> Entry | None:
        """As the base's."""
        fd = self._lowers.open(path)
        if fd is None:
            # Without any layer there is still a root, with nothing in it.
            return None if path else Entry(path=b"", kind="directory", mode=0o755)
        try:
            status = os.fstat(fd)
            return _entry(path, status, fd, {} if stat.S_ISLNK(status.st_mode) else read_xattrs(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)

    def children(self, path: bytes) -> Iterator[Entry]:
        """As the base's."""
        found: dict[bytes, Entry] = {}
        hidden: set[bytes] = set()
        for layer, fd in self._lowers.directories(path):
            with os.scandir(fd) as listing:
                for each in listing:
                    name = os.fsencode(each.name)
                    if name in found or name in hidden:
                        continue
                    status = each.stat(follow_symlinks=False)
                    entry = None if is_whiteout(status) else _named(join(path, name), status, fd, each.name)
                    if entry is None:
                        hidden.add(name)
                    else:
                        found[name] = entry
                        self._layers[entry.path] = layer
        for name in sorted(found):
            yield found[name]

    def open(self, entry: Entry) -> BinaryIO:
        """As the base's."""
        return os.fdopen(self._opened(entry), "rb")

    def extents(self, entry: Entry) -> Sequence[tuple[int, int]]:
        """As the base's."""
        if entry.size < _PIECE:
            return super().extents(entry)
        fd = self._opened(entry)
        try:
            return data_extents(fd, entry.size)
        finally:
            os.close(fd)

    def pieces(self, entry: Entry, offset: int, length: int) -> Iterator[bytes]:
        """As the base's."""
        fd = self._opened(entry)
        try:
            while length and (piece := os.pread(fd, min(length, _PIECE), offset)):
                offset += len(piece)
                length -= len(piece)
                yield piece
        finally:
            os.close(fd)

    def checksum(self, entry: Entry) -> str:
        """As the base's."""
        known = self._checksums.get(entry.path)
        if known is None:
            checksum = hashlib.sha256()
            for piece in self.pieces(entry, 0, entry.size):
                checksum.update(piece)
            known = self._checksums[entry.path] = f"sha256:{checksum.hexdigest()}"
        return known

    def resolve(self, path: bytes) -> bytes:
        """As the base's."""
        return follow(path, self._target)

    def close(self) -> None:
        """As the base's. Idempotent."""
        self._lowers.close()

    def _target(self, path: bytes) -> bytes | None:
        fd = self._lowers.open(path)
        if fd is None:
            return None
        try:
            return os.readlink(b"", dir_fd=fd) if stat.S_ISLNK(os.fstat(fd).st_mode) else None
        finally:
            os.close(fd)

    def _opened(self, entry: Entry) -> int:
        layer = self._layers.get(entry.path)
        if layer is None:
            found = self._lowers.locate(entry.path)
            if found is None:
                raise InternalError(f"{shown(entry.path)} is gone while it is read")
            layer = self._layers[entry.path] = found[0]
        return self._lowers.open_file(layer, entry.path)


def _named(path: bytes, status: os.stat_result, fd: int, name: str) -> Entry | None:
    """The entry of a name in an open directory; None for what can't be kept, a socket."""
    if not stat.S_ISLNK(status.st_mode):
        return _entry(path, status, -1, read_xattrs(f"/proc/self/fd/{fd}/{name}", follow=False))
    own = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        return _entry(path, status, own, {})
    finally:
        os.close(own)


def _entry(path: bytes, status: os.stat_result, own: int, xattrs: dict[str, bytes]) -> Entry | None:
    """An entry of a status.

    Args:
        path: its path.
        status: its status.
        own: an ``O_PATH`` descriptor of it where it is a link.
        xattrs: its extended attributes.
    """
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if kind in ("char", "block") else (0, 0)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == "file" else 0,
        mtime=status.st_mtime_ns,
        link=os.readlink(b"", dir_fd=own) if kind == "symlink" else b"",
        device=device,
        inode=status.st_ino if status.st_nlink > 1 and kind != "directory" else 0,
        xattrs=xattrs,
    )
