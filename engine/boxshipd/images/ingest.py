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
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from boxshipd.errors import InvalidParameter
from boxshipd.images.blob import Blob
from boxshipd.images.digest import Digest, parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.unpack.direct import ALIGNMENT, FileSource, Run, open_direct
from boxshipd.images.unpack.limits import MIB

PARTIAL = "partial-"
_NOTE = ".ranges"
_NOTE_EVERY = 8 * MIB
# From which size on a blob is written around the page cache, and how many of its ranges at a time.
_DIRECT = 4 * MIB
_RUNS = 8
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
        self._direct = open_direct(self.path) if size >= _DIRECT else None
        self._runs: list[Run] = []

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
        with self._run(offset) as run:
            if run is not None:
                run.write(memoryview(data))
            else:
                _write_at(self._fd, memoryview(data), offset)
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
        self._flush()
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
        self._flush()
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
            self._flush()
        except OSError:
            # Where something has gone wrong already, that is what there is to tell.
            if error is None:
                raise
        finally:
            self._leave()

    def _leave(self) -> None:
        """Keep what can be gone on with, and remove the rest."""
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
            if self._direct is not None:
                os.close(self._direct)

    @contextlib.contextmanager
    def _run(self, offset: int) -> Iterator[Run | None]:
        """The run that ends at an offset, or a new one, for this thread alone; None for what is written as always."""
        with self._lock:
            run = next((run for run in self._runs if run.end == offset and not run.taken), None)
            if run is None and self._direct is not None and offset % ALIGNMENT == 0:
                self._make_room()
                run = Run(self._fd, self._direct, offset)
                self._runs.append(run)
            if run is not None:
                run.taken = True
        try:
            yield run
        finally:
            if run is not None:
                run.taken = False

    def _make_room(self) -> None:
        """End the oldest run that nobody writes to, where there are many: its bytes are on record, and must not be lost."""
        idle = next((run for run in self._runs if not run.taken), None)
        if len(self._runs) >= _RUNS and idle is not None:
            idle.flush()
            self._runs.remove(idle)

    def _flush(self) -> None:
        """Write out what is in buffers; nobody may be writing.

        Raises:
            OSError: the disk refused. What isn't on it is missing again then.
        """
        failure: OSError | None = None
        runs, self._runs = self._runs, []
        for run in runs:
            try:
                run.flush()
            except OSError as error:
                failure = error
                self._ranges = _without(self._ranges, run.start, run.end)
        if failure is not None:
            raise failure

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
        written = self._ranges
        for run in self._runs:
            written = _without(written, run.start, run.end)
        fresh = f"{self.path}{_NOTE}.new"
        with open(fresh, "wb") as file:
            file.write(msgspec.json.encode(written))
        os.rename(fresh, self.path + _NOTE)

    def _prefix(self) -> int:
        return self._ranges[0][1] if self._ranges and self._ranges[0][0] == 0 else 0

    def _hash_rest(self) -> None:
        """Hash what came before this attempt, or out of order."""
        if self._hashed == self.size:
            return
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            source = FileSource(fd, self._hashed)
            while self._hashed < self.size and (piece := source.read(min(MIB, self.size - self._hashed))):
                self._hash.update(piece)
                self._hashed += len(piece)
        finally:
            os.close(fd)


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


def _write_at(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count


def _without(ranges: list[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Ranges without one."""
    left = [(first, min(last, start)) for first, last in ranges] + [(max(first, end), last) for first, last in ranges]
    return sorted({(first, last) for first, last in left if first < last})


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
