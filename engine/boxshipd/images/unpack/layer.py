"""Unpacking one layer's blob: decompression and hashing on one thread, the file system on another."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Queue
from types import TracebackType
from typing import Self

from boxshipd.images.unpack.apply import LayerApplier
from boxshipd.images.unpack.compression import CHUNK, Source, decompressed
from boxshipd.images.unpack.direct import FileSource
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.unpack.tar import TarReader
from boxshipd.images.unpack.tree import Tree

_AHEAD = 8


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of a layer.

    Attributes:
        diff_id: the digest of the layer's archive, uncompressed.
        size: the sum of its files' lengths, in bytes.
        implied: directories that it has files in and doesn't describe: ``tree.inherit`` is for them.
        hides: it has whiteouts, which the lowest layer of an image must not have.
    """

    diff_id: str
    size: int
    implied: tuple[bytes, ...] = ()
    hides: bool = False


class Watched:
    """A source that tells how far it has been read.

    Args:
        source: the source.
        progress: called with the number of bytes read so far; it may raise to end the work.
    """

    def __init__(self, source: Source, progress: Callable[[int], None]) -> None:
        self._source = source
        self._progress = progress
        self._count = 0

    def read(self, size: int, /) -> bytes:
        """As the source's."""
        data = self._source.read(size)
        self._count += len(data)
        self._progress(self._count)
        return data


class ReadAhead:
    """A source read by a thread of its own, a few chunks ahead, and hashed there.

    Decompression and hashing let go of the interpreter's lock, so that they run beside whoever reads from here.

    Args:
        source: what is read.
        hashed: whether ``digest`` will be asked for.
    """

    def __init__(self, source: Source, *, hashed: bool = True) -> None:
        self._source = source
        self._hashed = hashed
        self._queue: Queue[bytes | BaseException] = Queue(_AHEAD)
        self._hash = hashlib.sha256()
        self._stop = False
        self._ended = False
        self._rest = b""
        self._thread = threading.Thread(target=self._run, name="layer-read-ahead", daemon=True)
        self._thread.start()

    def read(self, size: int, /) -> bytes:
        """The next bytes; an error of the source is raised here."""
        if not self._rest and not self._ended:
            item = self._queue.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._ended = not item
            self._rest = item
        out, self._rest = self._rest[:size], self._rest[size:]
        return out

    def digest(self) -> str:
        """The digest of everything, once everything has been read."""
        while self.read(CHUNK):
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop = True
        while self._thread.is_alive():
            # A thread that waits for room needs one place to see that it should stop.
            while not self._queue.empty():
                self._queue.get()
            self._thread.join(0.01)

    def _run(self) -> None:
        try:
            while not self._stop:
                chunk = self._source.read(CHUNK)
                if self._hashed:
                    self._hash.update(chunk)
                self._queue.put(chunk)
                if not chunk:
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the data is read
            self._queue.put(error)


def ignore(_: int) -> None:
    """For work whose progress nobody follows."""


def unpack_layer(
    blob: str,
    root: str,
    *,
    lowest: bool,
    digest: str = "",
    limits: Limits = DEFAULT_LIMITS,
    progress: Callable[[int], None] = ignore,
) -> Unpacked:
    """Unpack the blob at a path into the empty directory ``root``.

    Args:
        blob: a tar archive, plain or compressed.
        root: where to.
        lowest: there is no layer below, so that there is nothing to hide.
        digest: the blob's digest where that has been verified: an archive that isn't compressed isn't hashed again.
        limits: what it may take.
        progress: called with the bytes of the blob read so far, from another thread; it may raise to end the work.

    Raises:
        HostileOrBroken: the blob isn't a layer that can be unpacked.
        OSError: the kernel refused.
    """
    fd = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
    try:
        known = (lambda: digest) if digest.startswith("sha256:") else None
        return unpack_stream(Watched(FileSource(fd), progress), root, lowest=lowest, digest=known, limits=limits)
    finally:
        os.close(fd)


def unpack_stream(
    source: Source, root: str, *, lowest: bool, digest: Callable[[], str] | None = None, limits: Limits = DEFAULT_LIMITS
) -> Unpacked:
    """Unpack a stream into the empty directory ``root``, and read it to its end.

    Args:
        source: a tar archive, plain or compressed.
        root: where to.
        lowest: as for ``unpack_layer``.
        digest: tells the stream's sha256 at its end where somebody else works it out: an archive that isn't compressed isn't
            hashed again.
        limits: what it may take.

    Raises:
        HostileOrBroken: it isn't a layer that can be unpacked.
        OSError: the kernel refused.
    """
    kind, plain = decompressed(source, limits)
    with Tree(root, layered=not lowest) as tree:
        if not kind and digest is not None:
            size = LayerApplier(tree, limits).apply(TarReader(plain, limits))
            return Unpacked(digest(), size, tuple(tree.implied), tree.hides)
        with ReadAhead(plain) as ahead:
            size = LayerApplier(tree, limits).apply(TarReader(ahead, limits))
            return Unpacked(ahead.digest(), size, tuple(tree.implied), tree.hides)


def diff_id(blob: str, *, digest: str = "", limits: Limits = DEFAULT_LIMITS, progress: Callable[[int], None] = ignore) -> str:
    """The digest of a layer's archive, uncompressed, without unpacking it; ``digest`` as for ``unpack_layer``.

    Raises:
        HostileOrBroken: the blob can't be decompressed.
    """
    fd = os.open(blob, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kind, plain = decompressed(Watched(FileSource(fd), progress), limits)
        if not kind and digest.startswith("sha256:"):
            return digest
        checksum = hashlib.sha256()
        while data := plain.read(CHUNK):
            checksum.update(data)
        return f"sha256:{checksum.hexdigest()}"
    finally:
        os.close(fd)
