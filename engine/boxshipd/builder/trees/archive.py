"""A tree that came as an archive: the archive itself, uncompressed, in one file without a name, and an index of its members.

Nothing is unpacked. What is copied out of it goes straight from there to where it belongs; only who must mount it has it as a
directory.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, Self, cast

from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.digest import tree_digest
from boxshipd.builder.trees.index import Data, Index
from boxshipd.builder.trees.materialise import write_tree
from boxshipd.builder.trees.spool import Kept, Section, Spool, pieces
from boxshipd.images.errors import HostileOrBroken
from boxshipd.images.unpack.compression import Source, decompressed
from boxshipd.images.unpack.layer import ReadAhead
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, MIB, Limits
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.unpack.tar import FILE, TarReader
from boxshipd.images.unpack.tar import Entry as TarEntry


def unchecked() -> None:
    """For work that nobody ends early."""


class ArchiveTree(Tree):
    """The tree. ``read`` makes one.

    Args:
        spool: what the archive is in; closed with the tree.
        index: its members.
        scratch: where it is unpacked if it must be.
    """

    def __init__(self, spool: Spool, index: Index, scratch: str) -> None:
        self._spool = spool
        self._index = index
        self._scratch = scratch
        self._lock = threading.Lock()
        self._digest = ""
        self._directory = ""

    @classmethod
    def read(
        cls,
        source: Source,
        scratch: str,
        *,
        exclude: Matcher | None = None,
        limits: Limits = DEFAULT_LIMITS,
        check: Callable[[], None] = unchecked,
    ) -> Self:
        """Read an archive to its end.

        Args:
            source: a tar archive, plain or compressed with gzip, zstd, xz or bzip2.
            scratch: a directory of the daemon's, on whose file system it is kept.
            exclude: what is left out.
            limits: what it may take.
            check: called now and then, from another thread too; it may raise to end the work.

        Raises:
            HostileOrBroken: it isn't an archive that can be used.
            OSError: the disk refused.
        """
        spool = Spool(scratch)
        try:
            _, plain = decompressed(source, limits)
            with ReadAhead(Kept(plain, spool, check), hashed=False) as ahead:
                index = _index(TarReader(ahead, limits), exclude, check)
            return cls(spool, index, scratch)
        except BaseException:
            spool.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether it can still be read from."""
        return self._spool.is_open

    def without(self, exclude: Matcher) -> ArchiveTree:
        """A tree of the same archive that lasts as long as it likes.

        Args:
            exclude: what is left out.

        Raises:
            OSError: there are no descriptors left.
        """
        return ArchiveTree(self._spool.share(), self._index.without(exclude), self._scratch)

    @property
    def digest(self) -> str:
        """As the base's."""
        with self._lock:
            if not self._digest:
                self._digest = tree_digest(self)
            return self._digest

    def entry(self, path: bytes) -> Entry | None:
        """As the base's."""
        return self._index.entries.get(path)

    def children(self, path: bytes) -> Sequence[Entry]:
        """As the base's."""
        return self._index.children(path)

    def open(self, entry: Entry) -> BinaryIO:
        """As the base's."""
        data = self._index.data[entry.path]
        section = Section(self._spool, data.offset, self.extents(entry), entry.size)
        return cast(BinaryIO, io.BufferedReader(section, MIB))

    def extents(self, entry: Entry) -> Sequence[tuple[int, int]]:
        """As the base's."""
        known = self._index.data[entry.path].extents
        return super().extents(entry) if known is None else known

    def pieces(self, entry: Entry, offset: int, length: int) -> Iterator[bytes]:
        """As the base's."""
        data = self._index.data[entry.path]
        if data.extents is None:
            return pieces(self._spool, data.offset + offset, min(length, entry.size - offset), MIB)
        return super().pieces(entry, offset, length)

    def checksum(self, entry: Entry) -> str:
        """As the base's."""
        data = self._index.data[entry.path]
        if not data.digest:
            checksum = hashlib.sha256()
            for piece in self.pieces(entry, 0, entry.size):
                checksum.update(piece)
            data = self._index.data[entry.path] = data._replace(digest=checksum.digest())
        return f"sha256:{data.digest.hex()}"

    def resolve(self, path: bytes) -> bytes:
        """As the base's."""
        return self._index.resolve(path)

    def directory(self) -> AbstractContextManager[str]:
        """As the base's. It is unpacked once, and removed when the tree is closed."""
        with self._lock:
            if not self._directory:
                work = tempfile.mkdtemp(prefix="context-", dir=self._scratch)
                try:
                    # What others must not see may be in it; what is in there has modes of its own.
                    root = os.path.join(work, "fs")
                    os.mkdir(root, 0o755)
                    write_tree(self, root)
                except BaseException:
                    remove_tree(work)
                    raise
                self._directory = work
            return nullcontext(os.path.join(self._directory, "fs"))

    def close(self) -> None:
        """As the base's. Idempotent."""
        self._spool.close()
        with self._lock:
            directory, self._directory = self._directory, ""
        if directory:
            remove_tree(directory)


def is_archive(source: Source, limits: Limits = DEFAULT_LIMITS) -> bool:
    """Whether a stream is an archive, compressed or not, judged by its first member."""
    try:
        return next(iter(TarReader(decompressed(source, limits)[1], limits)), None) is not None
    except HostileOrBroken:
        return False


def _index(reader: TarReader, exclude: Matcher | None, check: Callable[[], None]) -> Index:
    index = Index()
    ignored: set[bytes] = set()
    for member in reader:
        check()
        path = index.place(member.name)
        leave_out = exclude is not None and bool(path) and exclude.matches(os.fsdecode(path))
        if leave_out:
            ignored.add(path)
        index.add(member, path, _data(member, reader, hashed=not leave_out) if member.kind == FILE else None)
    index.leave_out(ignored)
    return index


def _data(member: TarEntry, reader: TarReader, *, hashed: bool) -> Data:
    """Where a file's bytes are, and their digest while they pass."""
    offset = reader.offset
    if member.sparse is not None:
        return Data(offset, member.size, b"", tuple(member.sparse.fragments))
    if not hashed:
        return Data(offset, member.size)
    checksum = hashlib.sha256()
    for piece in reader.data():
        checksum.update(piece)
    return Data(offset, member.size, checksum.digest())
