"""A blob on its way in whose digest and size are known beforehand, and which may come in pieces and after interruptions.

Each has a file of its own under ``ingest``, ``partial-<algorithm>-<hex>``, and beside it a note of which ranges of that are
there. Whatever ends the work (a cut connection, a killed daemon), the next one that brings the same blob in begins where the
last one stopped. The note is written after the bytes it speaks of, and may miss the newest of them; what a power failure makes
of both shows in the digest, and then the blob begins anew. Only ``commit`` makes a blob of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import Digest, parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.unpack.limits import MIB

if TYPE_CHECKING:
    from boxshipd.images.content import Blob

PARTIAL = "partial-"
_NOTE = ".ranges"
_NOTE_EVERY = 8 * MIB
_PIECE = MIB
KEPT_SECONDS = 24 * 3600.0
"""How long an abandoned partial file is kept after its last byte."""


class Ingest:
    """One blob coming in. A context manager; uncommitted, what has come stays for the next attempt.

    Its methods may be called from any thread, ``write_at`` by several at once. Made by ``ContentStore.ingest``.

    Args:
        directory: where partial files are.
        digest: the blob's digest.
        size: its length in bytes.
        publish: makes a blob of the finished file at a path.
    """

    def __init__(self, directory: str, digest: str, size: int, publish: Callable[[str], Blob]) -> None:
        if size < 0:
            raise InvalidParameter(f"content {digest} is said to have {size} bytes")
        self.digest = digest
        self.size = size
        self._publish = publish
        self._lock = threading.Lock()
        self._open(directory, parse_digest(digest))
        self._hash = hashlib.new(parse_digest(digest).algorithm)
        self._hashed = 0
        self._unnoted = 0
        self._ranges = self._known_ranges() if self._resumable else []
        self._committed = False

    @property
    def offset(self) -> int:
        """How many bytes there are from the beginning without a gap."""
        with self._lock:
            return self._prefix()

    def missing(self) -> list[tuple[int, int]]:
        """What isn't there yet: offset and length of each gap, in order."""
        with self._lock:
            gaps: list[tuple[int, int]] = []
            position = 0
            for start, end in [*self._ranges, (self.size, self.size)]:
                if start > position:
                    gaps.append((position, start - position))
                position = max(position, end)
            return gaps

    def write(self, data: bytes | memoryview) -> None:
        """Append at ``offset``.

        Raises:
            DigestMismatch: there is more than the blob's size.
        """
        self.write_at(self.offset, data)

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write a range, in whatever order ranges come.

        Raises:
            DigestMismatch: it goes beyond the blob's size.
        """
        length = len(data)
        if offset < 0 or offset + length > self.size:
            raise DigestMismatch(f"content {self.digest} has more than the {self.size} bytes announced")
        rest, position = memoryview(data), offset
        while rest:
            count = os.pwrite(self._fd, rest, position)
            rest, position = rest[count:], position + count
        with self._lock:
            if offset == self._hashed:
                self._hash.update(data)
                self._hashed += length
            self._ranges = _with(self._ranges, offset, offset + length)
            self._unnoted += length
            if self._unnoted >= _NOTE_EVERY:
                self._note()

    def reset(self) -> None:
        """Throw away what is there: it was found to be wrong."""
        with self._lock:
            os.ftruncate(self._fd, 0)
            self._ranges = []
            self._hash = hashlib.new(parse_digest(self.digest).algorithm)
            self._hashed = 0
            self._note()

    def commit(self) -> Blob:
        """Verify the whole and make a blob of it, pinned by the session that asked for the ingest.

        It is on the disk for certain after ``ContentStore.sync``, which ends every build.

        Raises:
            DigestMismatch: bytes are missing, or it isn't what its digest says; then the next attempt begins anew.
        """
        if gaps := self.missing():
            raise DigestMismatch(
                f"content {self.digest} has {self.size - sum(length for _, length in gaps)} of {self.size} bytes"
            )
        self._hash_rest()
        actual = f"{parse_digest(self.digest).algorithm}:{self._hash.hexdigest()}"
        if actual != self.digest:
            self.reset()
            raise DigestMismatch(f"content has digest {actual}, not {self.digest} as announced")
        blob = self._publish(self.path)
        self._committed = True
        return blob

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if self._committed or not self._resumable or not self._ranges:
                for path in (self.path, self.path + _NOTE):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
            else:
                with self._lock:
                    self._note()
        finally:
            os.close(self._fd)

    def _open(self, directory: str, digest: Digest) -> None:
        """Open this blob's partial file; while another ingest has it, one of our own that can't be resumed."""
        path = os.path.join(directory, f"{PARTIAL}{digest.algorithm}-{digest.hex}")
        while (fd := lock(path)) is not None:
            # Its last owner may have committed or removed it between our open and our lock.
            if _is_at(fd, path):
                self._fd, self.path, self._resumable = fd, path, True
                return
            os.close(fd)
        self._fd, self.path = tempfile.mkstemp(dir=directory)
        self._resumable = False

    def _known_ranges(self) -> list[tuple[int, int]]:
        """What an earlier attempt has left; nothing where its note can't be believed."""
        try:
            with open(self.path + _NOTE, "rb") as file:
                ranges = msgspec.json.decode(file.read(), type=list[tuple[int, int]])
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
            ranges = []
        end = min(os.fstat(self._fd).st_size, self.size)
        believed: list[tuple[int, int]] = []
        for start, stop in ranges:
            if 0 <= start < stop <= end:
                believed = _with(believed, start, stop)
        if not believed:
            os.ftruncate(self._fd, 0)
        return believed

    def _note(self) -> None:
        """Write down which ranges are there, as one rename."""
        self._unnoted = 0
        if not self._resumable:
            return
        fresh = f"{self.path}{_NOTE}.new"
        with open(fresh, "wb") as file:
            file.write(msgspec.json.encode(self._ranges))
        os.rename(fresh, self.path + _NOTE)

    def _prefix(self) -> int:
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def _hash_rest(self) -> None:
        """Hash what came before this attempt, or out of order."""
        while self._hashed < self.size:
            piece = os.pread(self._fd, min(_PIECE, self.size - self._hashed), self._hashed)
            if not piece:
                return
            self._hash.update(piece)
            self._hashed += len(piece)


def lock(path: str) -> int | None:
    """Open a partial file, made where missing, and lock it against other ingests; None while another has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def sweep_partial(directory: str, older_than: float) -> int:
    """Remove partial files that nobody has written to for so many seconds and that nobody holds; the bytes freed."""
    freed = 0
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if not name.startswith(PARTIAL):
            continue
        whole = path.removesuffix(".new").removesuffix(_NOTE)
        with contextlib.suppress(FileNotFoundError):
            if path != whole:
                if not os.path.exists(whole):
                    os.unlink(path)
                continue
            if os.stat(path).st_mtime > time.time() - older_than:
                continue
            fd = lock(path)
            if fd is None:
                continue
            try:
                freed += os.fstat(fd).st_blocks * 512
                for left in (path, path + _NOTE, f"{path}{_NOTE}.new"):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(left)
            finally:
                os.close(fd)
    return freed


def _is_at(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _with(ranges: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Ranges with one more, merged and in order."""
    if start == end:
        return ranges
    merged: list[tuple[int, int]] = []
    for first, last in ranges:
        if last < start or first > end:
            merged.append((first, last))
        else:
            start, end = min(start, first), max(end, last)
    merged.append((start, end))
    merged.sort()
    return merged
