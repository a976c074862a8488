"""The content store: blobs in an OCI layout, each verified on the way in and on disk before anybody names it.

A blob begins as a file in ``ingest`` and moves into ``blobs`` by a rename once its digest is known. ``sync`` puts it on the
disk, once for many, before the database names any of them. It stays as long as something pins it (work in progress) or the
database names it. What a crash leaves behind is removed at the next start, but for partial blobs that can be gone on with
(``ingest``). Source: OCI image specification, image-layout.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Self

from boxshipd.errors import InternalError, NotFound
from boxshipd.images.blob import Blob
from boxshipd.images.digest import parse_digest, sha256
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.ingest import KEPT_SECONDS, PARTIAL, Ingest, sweep_partial
from boxshipd.images.unpack.direct import DirectWriter

LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_MODE = 0o700


class BlobWriter:
    """A blob on its way in: write to it, then hand it to ``Session.commit``. Left uncommitted, it is removed.

    Args:
        directory: where to.
        small: it is known to be, so that a buffer of its own isn't worth while.
    """

    def __init__(self, directory: str, *, small: bool = False) -> None:
        self._fd, self.path = tempfile.mkstemp(dir=directory)
        self._direct = None if small else DirectWriter(self._fd)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append to the blob."""
        self._hash.update(data)
        self.size += len(data)
        if self._direct is not None:
            self._direct.write(data)
            return
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    @property
    def digest(self) -> str:
        """The digest of what has been written."""
        return f"sha256:{self._hash.hexdigest()}"

    def pause(self) -> None:
        """Close the file; nothing more can be written."""
        if self._direct is not None:
            self._direct.flush()
        os.close(self._fd)
        self._fd = -1

    def finish(self) -> Blob:
        """Close the file, which stays where it is; ``ContentStore.sync`` puts it on the disk."""
        if self._fd >= 0:
            self.pause()
        return Blob(self.digest, self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


class ContentStore:
    """Blobs below a directory, which is made where missing. Its methods may be called from any thread."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._ingest = os.path.join(root, "ingest")
        self._lock = threading.Lock()
        self._pins: Counter[str] = Counter()
        # Blobs that may not be on the disk yet, whoever has brought them in.
        self._unsynced: set[str] = set()
        self._sync_lock = threading.Lock()
        for algorithm in ("sha256", "sha512"):
            os.makedirs(os.path.join(root, "blobs", algorithm), mode=_MODE, exist_ok=True)
        os.makedirs(self._ingest, mode=_MODE, exist_ok=True)
        os.chmod(root, _MODE)
        layout = os.path.join(root, "oci-layout")
        if not os.path.exists(layout):
            with open(layout, "wb") as file:
                file.write(LAYOUT)

    def path(self, digest: str) -> str:
        """Where the blob of a digest is, or would be.

        Raises:
            InvalidParameter: it isn't a digest.
        """
        parsed = parse_digest(digest)
        return os.path.join(self.root, "blobs", parsed.algorithm, parsed.hex)

    def size(self, digest: str) -> int:
        """A blob's size in bytes.

        Raises:
            NotFound: there is no such blob.
        """
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None

    def has(self, digest: str) -> bool:
        """Whether there is a blob of a digest, at this moment."""
        return os.path.exists(self.path(digest))

    def digests(self) -> set[str]:
        """The digests of all blobs that there are."""
        algorithms = ("sha256", "sha512")
        return {f"{name}:{blob}" for name in algorithms for blob in os.listdir(os.path.join(self.root, "blobs", name))}

    def read(self, digest: str) -> bytes:
        """A small blob's bytes, verified.

        Raises:
            NotFound: there is no such blob.
            InternalError: the disk has changed it.
        """
        try:
            with open(self.path(digest), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise NotFound(f"content {digest} not found") from None
        if hashlib.new(parse_digest(digest).algorithm, data).hexdigest() != parse_digest(digest).hex:
            raise InternalError(f"content {digest} is damaged on disk")
        return data

    def writer(self, *, small: bool = False) -> BlobWriter:
        """A new blob; ``small`` as for BlobWriter."""
        return BlobWriter(self._ingest, small=small)

    def ingest(self, digest: str, size: int, claim: Callable[[str], bool] | None = None) -> Ingest:
        """A blob of known digest and size, which goes on where an earlier attempt stopped; see ``Session.ingest``.

        Args:
            digest: the blob's digest.
            size: its length in bytes.
            claim: pins it once it is there; ``self.claim`` where none is given, and then the caller takes that back.

        Raises:
            InvalidParameter: that is no digest, or no size.
        """
        sweep_partial(self._ingest, KEPT_SECONDS)

        def publish(path: str) -> Blob:
            if not (claim or self.claim)(digest):
                self.place(path, digest)
            return Blob(digest, size)

        return Ingest(self._ingest, digest, size, publish)

    def discard_partial(self) -> int:
        """Remove what abandoned ingests have left, however young; the bytes that became free."""
        return sweep_partial(self._ingest, 0)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Work that brings content in: what it pins can't be removed until it ends."""
        session = Session(self)
        try:
            yield session
        finally:
            session.release()

    def claim(self, digest: str) -> bool:
        """Pin a digest; whether its blob is there."""
        path = self.path(digest)
        with self._lock:
            self._pins[digest] += 1
            return os.path.exists(path)

    def unpin(self, digests: Iterable[str]) -> None:
        """Take back as many claims."""
        with self._lock:
            self._pins.subtract(digests)
            for digest in [digest for digest, count in self._pins.items() if count <= 0]:
                del self._pins[digest]

    def place(self, path: str, digest: str) -> None:
        """Make a verified file the blob of a digest, which the caller has pinned."""
        with self._lock:
            self._unsynced.add(digest)
        os.rename(path, self.path(digest))

    def sync(self) -> None:
        """Put all blobs that have come in, and their names, on the disk, those of others' work included.

        Raises:
            OSError: the disk has failed.
        """
        # One after the other: whoever comes second must not return before the first is done.
        with self._sync_lock:
            with self._lock:
                pending = set(self._unsynced)
            for digest in sorted(pending):
                with contextlib.suppress(FileNotFoundError):
                    _sync_file(self.path(digest))
            for algorithm in ("sha256", "sha512"):
                sync_directory(os.path.join(self.root, "blobs", algorithm))
            with self._lock:
                self._unsynced -= pending

    def discard(self, digest: str) -> int:
        """Remove a blob that nothing names any more, unless it is pinned; the bytes that became free."""
        path = self.path(digest)
        with self._lock:
            if digest in self._pins:
                return 0
            try:
                size = os.stat(path).st_size
                os.unlink(path)
            except FileNotFoundError:
                return 0
            return size

    def sweep(self, named: Collection[str]) -> None:
        """At start: remove what a crash has left: unfinished blobs that nobody goes on with, and those that nothing names."""
        sweep_partial(self._ingest, KEPT_SECONDS)
        for name in os.listdir(self._ingest):
            if not name.startswith(PARTIAL):
                os.unlink(os.path.join(self._ingest, name))
        for algorithm in ("sha256", "sha512"):
            for name in os.listdir(os.path.join(self.root, "blobs", algorithm)):
                digest = f"{algorithm}:{name}"
                if digest not in named:
                    os.unlink(os.path.join(self.root, "blobs", algorithm, name))


class Session:
    """The content one piece of work brings in or builds on, pinned until ``release``."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._pinned: list[str] = []

    def claim(self, digest: str) -> bool:
        """Pin a digest for this session; whether its blob is there."""
        self._pinned.append(digest)
        return self._store.claim(digest)

    def commit(self, writer: BlobWriter, expected: str = "") -> Blob:
        """Take a finished writer's file in as a blob.

        Raises:
            DigestMismatch: it isn't what ``expected`` says.
        """
        blob = writer.finish()
        digest = blob.digest
        if expected and expected != digest:
            algorithm = parse_digest(expected).algorithm
            digest = _digest_of_file(writer.path, algorithm) if algorithm != "sha256" else digest
            if digest != expected:
                raise DigestMismatch(f"content has digest {digest}, not {expected} as announced")
        if not self.claim(digest):
            self._store.place(writer.path, digest)
        return Blob(digest, blob.size)

    def ingest(self, digest: str, size: int) -> Ingest:
        """A blob of known digest and size that comes in pieces; committed, it is pinned by this session.

        While another ingest of the same blob is under way, this one has a file of its own and can't be resumed.

        Raises:
            InvalidParameter: that is no digest, or no size.
        """
        return self._store.ingest(digest, size, self.claim)

    def put(self, data: bytes) -> Blob:
        """Take a small blob in."""
        digest = sha256(data)
        if self.claim(digest):
            return Blob(digest, len(data))
        with self._store.writer(small=True) as writer:
            writer.write(data)
            return self.commit(writer, digest)

    def release(self) -> list[str]:
        """Let go of what was pinned; which digests that was."""
        pinned, self._pinned = self._pinned, []
        self._store.unpin(pinned)
        return pinned


def _digest_of_file(path: str, algorithm: str) -> str:
    with open(path, "rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Put a directory's entries on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
