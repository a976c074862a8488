"""An archive of images on its way in: each file in it goes to a file of its own, hashed as it passes.

An archive names its contents at its end, so all of it must be kept until then; what turns out to be a blob only needs a new
name, so that nothing is ever copied. What looks like a layer is unpacked while it passes.
"""

from __future__ import annotations

import posixpath
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from boxshipd.errors import InvalidParameter
from boxshipd.images.archive.preparation import Preparation
from boxshipd.images.blob import Blob
from boxshipd.images.content import BlobWriter, ContentStore, Session
from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.model import DOCUMENT_LIMIT
from boxshipd.images.unpack.apply import clean
from boxshipd.images.unpack.compression import Source, decompressed
from boxshipd.images.unpack.limits import Limits
from boxshipd.images.unpack.tar import FILE, LINK, SYMLINK, TarReader

_MAX_LINKS = 16
_SMALL = 1 << 20


class Spool:
    """The files of one archive. What isn't committed is gone when it closes."""

    def __init__(self, content: ContentStore, session: Session, limits: Limits, preparation: Preparation) -> None:
        self._content = content
        self._session = session
        self._limits = limits
        self._preparation = preparation
        self._files: dict[str, BlobWriter] = {}
        self._links: dict[str, str] = {}
        self._committed: dict[str, Blob] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def fill(self, source: Source) -> None:
        """Read the whole archive, whatever it is compressed with.

        Raises:
            HostileOrBroken: it isn't an archive that can be used.
        """
        _, plain = decompressed(source, self._limits)
        reader = TarReader(plain, self._limits)
        for entry in reader:
            if reader.entries > self._limits.members:
                raise LimitExceeded(f"archive of images has more than {self._limits.members} files")
            name = _text(clean(entry.name))
            if entry.kind == FILE:
                if entry.sparse is not None:
                    raise InvalidArchive(f"archive of images has a sparse file {name!r}")
                self._store(name, entry.size, reader)
            elif entry.kind == SYMLINK:
                self._link(
                    name,
                    _text(
                        clean(posixpath.join(posixpath.dirname(name), _text(entry.linkname)).encode("utf-8", "surrogateescape"))
                    ),
                )
            elif entry.kind == LINK:
                self._link(name, _text(clean(entry.linkname)))
        if not reader.entries:
            raise InvalidArchive("archive is empty")
        self._preparation.wait()

    def _store(self, name: str, size: int, reader: TarReader) -> None:
        """A file that comes twice replaces the first, as it would on disk."""
        self._links.pop(name, None)
        self._committed.pop(name, None)
        if name in self._files:
            self._files.pop(name).__exit__(None, None, None)
        writer = self._stack.enter_context(self._content.writer(small=size < _SMALL))
        with self._preparation.layer(name, size) as layer:
            for piece in reader.data():
                # First, so that both go on at once.
                layer.write(piece)
                writer.write(piece)
            # Thousands of files may follow; this one is complete and needs no descriptor.
            writer.pause()
            layer.finish(writer.digest)
        self._files[name] = writer
        if self._content.has(writer.digest) and not name.startswith("blobs/sha512/"):
            # Nothing is kept twice, not even until the archive's end.
            self._committed[name] = self._session.commit(writer)
            writer.__exit__(None, None, None)

    def _link(self, name: str, target: str) -> None:
        self._files.pop(name, None)
        self._links[name] = target

    def find(self, name: str) -> str | None:
        """The file that a name leads to, through links in the archive; None if to nothing."""
        name = _text(clean(name.encode("utf-8", "surrogateescape")))
        for _ in range(_MAX_LINKS):
            if name in self._files:
                return name
            if name not in self._links:
                return None
            name = self._links[name]
        return None

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None

    def document(self, name: str) -> bytes:
        """A small file's content.

        Raises:
            InvalidParameter: it isn't there, or too big for a document.
        """
        found = self.find(name)
        if found is None:
            raise InvalidParameter(f"archive of images has no {name}")
        writer = self._files[found]
        if writer.size > DOCUMENT_LIMIT:
            raise LimitExceeded(f"{name} has {writer.size} bytes, more than the {DOCUMENT_LIMIT} allowed for a document")
        if found in self._committed:
            return self._content.read(self._committed[found].digest)
        with open(writer.path, "rb") as file:
            return file.read()

    def commit(self, name: str, expected: str = "") -> Blob:
        """Take a file in as a blob.

        Args:
            name: its name.
            expected: the digest it must have, if known.

        Raises:
            InvalidParameter: it isn't there, or of another digest.
        """
        found = self.find(name)
        if found is None:
            raise InvalidParameter(f"archive of images has no {name}")
        blob = self._committed.get(found)
        if blob is None or (expected and expected != blob.digest):
            blob = self._session.commit(self._files[found], expected)
            self._committed[found] = blob
        return blob


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
