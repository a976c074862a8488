"""ADD of a URL, and contexts from one: a file that is downloaded, or only asked about where it has been before.

Source: BuildKit source/http/source.go; RFC 9110, section 13 (conditional requests).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Struct
from yarl import URL

from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.executor import Work
from boxshipd.builder.graph import HttpSource
from boxshipd.builder.ops.authorization import of_url
from boxshipd.builder.ops.fetched import FetchedTree
from boxshipd.builder.progress import Reporter
from boxshipd.builder.results import Result, Tree
from boxshipd.builder.trees.archive import ArchiveTree, is_archive
from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.images.digest import parse_digest
from boxshipd.images.errors import DigestMismatch, LimitExceeded
from boxshipd.images.remote_import import address
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.images.workers import Cancellation, Workers
from boxshipd.registry.errors import RegistryError

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

LARGEST = 16 << 30
"""Bytes that may come of one URL."""
LONGEST = 3600.0
"""Seconds that they may take; a connection that says nothing is given up much earlier."""
_PIECE = 1 << 20
_INTERVAL = 0.1
_UNNAMED = "download"
_NEW, _NOTE = "new", "note.json"
_ATTEMPTS = 3
_NOT_MODIFIED = 304
_ALGORITHMS = frozenset({"sha256", "sha384", "sha512"})


class Hash(Protocol):
    """What of hashlib's objects is needed."""

    def update(self, data: bytes, /) -> None:
        """More."""

    def hexdigest(self) -> str:
        """Of all so far."""


class Note(Struct, frozen=True):
    """What was said of a file when it came: enough to ask whether it has changed. ``modified`` in s since the epoch."""

    digest: str
    name: str
    etag: str = ""
    last_modified: str = ""
    modified: int = 0


class HttpExecutor:
    """Carries out ``HttpSource``.

    Args:
        distribution: connections to anywhere, by way of the proxies that are configured.
        fetched: where downloads are kept.
        workers: threads.
        scratch: a directory of the daemon's on the same file system, for what lasts as long as a build.
        largest: bytes that may come.
    """

    def __init__(
        self, distribution: Distribution, fetched: Fetched, workers: Workers, scratch: str, largest: int = LARGEST
    ) -> None:
        self._distribution = distribution
        self._fetched = fetched
        self._workers = workers
        self._scratch = scratch
        self._largest = largest

    async def key(self, op: HttpSource, work: Work) -> str:
        """See Executor. What has no checksum has to be asked for; what is made of it depends on its content alone."""
        if not op.checksum:
            return ""
        return f"sha256:{hashlib.sha256(msgspec.json.encode(['http', op], order='deterministic')).hexdigest()}"

    async def run(self, op: HttpSource, work: Work) -> list[Result]:
        """See Executor.

        Raises:
            InvalidParameter: it isn't a URL, or the checksum isn't one.
            DigestMismatch: it isn't what the checksum says.
            LimitExceeded: it is too much.
            RegistryError: it can't be had.
        """
        url = address(op.url)
        for _ in range(_ATTEMPTS):
            try:
                return [await self._attempt(op, url, work)]
            except FileNotFoundError:
                # Another build has found something newer there, between our looking at what is kept and taking it.
                continue
        raise InternalError(f"{_plain(url)} changes too fast to be taken")

    async def _attempt(self, op: HttpSource, url: URL, work: Work) -> Tree:
        algorithm = _algorithm(op.checksum)
        key = hashlib.sha256(f"{algorithm} {op.url}".encode()).hexdigest()
        directory = await self._workers.run(lambda: self._fetched.find(key))
        try:
            note = await self._workers.run(lambda: _noted(directory)) if directory else None
            if note is None or note.digest != op.checksum:
                fresh = await self._ask(url, key, algorithm, note, work)
                if fresh is not None:
                    if directory:
                        self._fetched.give_back(key)
                    directory, note = fresh
            assert directory
            assert note is not None
            if op.checksum and note.digest != op.checksum:
                raise DigestMismatch(f"digest mismatch for {_plain(url)}: {note.digest} (expected: {op.checksum})")
            return await self._tree(op, directory, note, key)
        except BaseException:
            if directory:
                self._fetched.give_back(key)
            raise

    async def _ask(self, url: URL, key: str, algorithm: str, note: Note | None, work: Work) -> tuple[str, Note] | None:
        """Download what is there; None where it is still what the note says."""
        headers = {}
        if authorization := await of_url(url.host or "", work.around.session):
            headers["Authorization"] = authorization
        conditional = note is not None and bool(note.etag or note.last_modified)
        if note is not None and note.etag:
            headers["If-None-Match"] = note.etag
        elif note is not None and note.last_modified:
            headers["If-Modified-Since"] = note.last_modified
        try:
            async with asyncio.timeout(LONGEST), self._distribution.fetch(url, headers) as response:
                if response.status == _NOT_MODIFIED and conditional:
                    return None
                if response.status != 200:
                    raise RegistryError(f"failed to GET {_plain(url)}: unexpected status {response.status}")
                return await self._save(
                    url,
                    key,
                    algorithm,
                    response.headers,
                    response.content.iter_any(),
                    response.content_length or 0,
                    work.report,
                )
        except TimeoutError as error:
            raise RegistryError(f"failed to GET {_plain(url)}: it takes more than {LONGEST:g} s") from error

    async def _save(  # noqa: PLR0917 - an answer's parts
        self,
        url: URL,
        key: str,
        algorithm: str,
        headers: Mapping[str, str],
        chunks: AsyncIterator[bytes],
        total: int,
        report: Reporter,
    ) -> tuple[str, Note]:
        # At once: a thread would make it even where nobody waits for it any more, and nobody would remove it.
        new = self._fetched.new()
        try:
            saving = _Saving(f"{new}/{_NEW}", hashlib.new(algorithm))
            try:
                async for piece in _reported(_gathered(chunks), total, report):
                    if saving.size + len(piece) > self._largest:
                        raise LimitExceeded(f"{_plain(url)} has more than {self._largest} bytes")
                    await self._workers.run(lambda piece=piece: saving.write(piece))  # type: ignore[misc]
            finally:
                saving.close()
            last_modified = headers.get("Last-Modified", "")
            note = Note(
                digest=f"{algorithm}:{saving.checksum.hexdigest()}",
                name=_disposition(headers.get("Content-Disposition", "")) or _basename(url),
                etag=headers.get("ETag", ""),
                last_modified=last_modified,
                modified=_seconds(last_modified),
            )

            def keep() -> str:
                _finish(new, note, f"{new}/{_NEW}")
                return self._fetched.keep(new, key, f"http url {_plain(url)}", replaces=True)

            return await self._workers.run(keep), note
        except OSError as error:
            await self._workers.run(lambda: remove_tree(new))
            raise InternalError(f"keep {_plain(url)}: {error.strerror or error}") from error
        except BaseException:
            await self._workers.run(lambda: remove_tree(new))
            raise

    async def _tree(self, op: HttpSource, directory: str, note: Note, key: str) -> Tree:
        cancellation = Cancellation()

        def make() -> Tree:
            data = f"{directory}/{_data(note)}"
            if op.unpack and _holds_archive(data):
                with open(data, "rb") as file:
                    tree = ArchiveTree.read(file, self._scratch, check=cancellation.check)
                self._fetched.give_back(key)
                return tree
            # Under the name that is asked for now; the file itself is the one that is kept.
            own = os.path.join(self._scratch, f"download-{os.urandom(8).hex()}")
            os.mkdir(own, 0o755)
            try:
                os.link(data, f"{own}/{op.filename or note.name}")
            except OSError:
                os.rmdir(own)
                raise
            return FetchedTree(own, lambda: self._fetched.give_back(key), remove=own)

        return await self._workers.run(make, cancellation)


class _Saving:
    """A file that is written and hashed."""

    def __init__(self, path: str, checksum: Hash) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.checksum = checksum
        self.size = 0

    def write(self, data: bytes) -> None:
        """More of it. Blocks."""
        self.checksum.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def close(self) -> None:
        """The end of it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


async def _gathered(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Small chunks are put together, since each goes to another thread."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size >= _PIECE:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


async def _reported(chunks: AsyncIterator[bytes], total: int, report: Reporter) -> AsyncIterator[bytes]:
    started = time.time_ns()
    count, told = 0, 0.0
    report.status("downloading", 0, total, started=started)
    async for chunk in chunks:
        yield chunk
        count += len(chunk)
        if time.monotonic() - told > _INTERVAL:
            told = time.monotonic()
            report.status("downloading", count, total, started=started)
    report.status("downloading", count, count, started=started, completed=time.time_ns())


def _finish(directory: str, note: Note, data: str) -> None:
    os.utime(data, (note.modified, note.modified))
    os.rename(data, f"{directory}/{_data(note)}")
    with open(f"{directory}/{_NOTE}", "wb") as file:
        file.write(msgspec.json.encode(note))


def _data(note: Note) -> str:
    """The name of a file that is kept: of another content, another one, so that nobody takes one for the other."""
    return note.digest.replace(":", "-")


def _noted(directory: str | None) -> Note | None:
    try:
        with open(f"{directory}/{_NOTE}", "rb") as file:
            return msgspec.json.decode(file.read(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return None


def _holds_archive(path: str) -> bool:
    with open(path, "rb") as file:
        return is_archive(file)


def _algorithm(checksum: str) -> str:
    if not checksum:
        return "sha256"
    algorithm = parse_digest(checksum).algorithm
    if algorithm not in _ALGORITHMS:
        raise InvalidParameter(f"checksum {checksum}: unsupported digest algorithm")
    return algorithm


def _basename(url: URL) -> str:
    return _name(url.name)


def _disposition(header: str) -> str:
    """The file name that ``Content-Disposition`` gives, if it is one."""
    message = Message()
    message["Content-Disposition"] = header
    return _name(message.get_filename("")) if header else ""


def _name(text: str) -> str:
    """What can be a file's name of its own; else the one that BuildKit takes where there is none."""
    if not text or text in (".", "..") or "/" in text or "\0" in text or len(os.fsencode(text)) > 255:
        return _UNNAMED
    return text


def _seconds(date: str) -> int:
    """An HTTP date in seconds since the epoch; 0, as BuildKit has it, where there is none."""
    with suppress(ValueError, TypeError, OverflowError):
        return max(0, int(parsedate_to_datetime(date).timestamp()))
    return 0


def _plain(url: URL) -> str:
    """A URL as it may be shown: without a password or a signed query."""
    return str(url.with_user(None).with_query(None))
