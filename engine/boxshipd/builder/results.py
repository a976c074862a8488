"""What a vertex makes: a file system, or a tree of files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO, Literal

from msgspec import Struct

from boxshipd.images.record import Layer

Kind = Literal["file", "directory", "symlink", "fifo", "char", "block"]

_PIECE = 1 << 20


class Snapshot(Struct, frozen=True):
    """A file system: layers of the image store, lowest first; none of them is an empty one (``FROM scratch``)."""

    layers: tuple[Layer, ...] = ()

    @property
    def chain(self) -> str:
        """The digest of the whole, or nothing for an empty one."""
        return self.layers[-1].chain if self.layers else ""


class Entry(Struct, frozen=True, kw_only=True):
    """One file of a tree.

    ``path`` is relative to the tree's root, without leading or trailing slash; empty for the root itself.

    ``mode`` are the permission bits, ``mtime`` is in ns since the epoch, ``link`` a symbolic link's target. Hard links are
    files with the same ``inode``, which means nothing beyond the tree; 0 where there is only one.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    inode: int = 0
    xattrs: dict[str, bytes] = {}


class Tree(ABC):
    """Files to be read: a context that came as an archive, a downloaded file, a checked-out repository, or a snapshot that is
    looked into.

    Its methods block and are for workers' threads. Nothing follows symbolic links but ``resolve``.
    """

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of everything that counts: names, kinds, modes, owners, links and bytes, not times."""

    @abstractmethod
    def entry(self, path: bytes) -> Entry | None:
        """What is at a path; None for nothing."""

    @abstractmethod
    def children(self, path: bytes) -> Iterable[Entry]:
        """What a directory has, by the names' bytes."""

    @abstractmethod
    def open(self, entry: Entry) -> BinaryIO:
        """A file's bytes, holes included; it can be sought in."""

    def extents(self, entry: Entry) -> Sequence[tuple[int, int]]:
        """Where a file has data: offset and length of each piece, in order."""
        return ((0, entry.size),) if entry.size else ()

    def pieces(self, entry: Entry, offset: int, length: int) -> Iterator[bytes]:
        """Part of a file's bytes."""
        with self.open(entry) as file:
            file.seek(offset)
            while length and (piece := file.read(min(length, _PIECE))):
                length -= len(piece)
                yield piece

    @abstractmethod
    def checksum(self, entry: Entry) -> str:
        """The digest of a file's bytes."""

    @abstractmethod
    def resolve(self, path: bytes) -> bytes:
        """Where a path leads when symbolic links are followed inside the tree, as if its root were ``/``; the last component
        included.

        What isn't there stays as it is written, so the result may name nothing.
        """

    @abstractmethod
    def directory(self) -> AbstractContextManager[str]:
        """The tree as a directory of the daemon's, to be mounted read-only or read from; it lasts as long as the context."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what it is kept in."""


Result = Snapshot | Tree
