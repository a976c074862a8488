"""Blobs out of a registry: small ones into memory, large ones into a file, in parallel ranges that can be gone on with.

Source: OCI distribution specification 1.1, "Pulling blobs", "Checking if content exists in the registry"; RFC 9110, section 14
(ranges).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any, Protocol

from aiohttp import ClientResponse

from boxshipd.errors import InternalError
from boxshipd.images.digest import parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.registry.errors import Absent, BadAnswer, RegistryBusy, Unreachable
from boxshipd.registry.repository import Repository
from boxshipd.registry.timing import Tell, retrying, wait_to_retry
from boxshipd.registry.transport import read_bounded

PART = 32 << 20
"""The bytes of a blob that are asked for at once."""
CONNECTIONS = 3
"""How many parts of a blob come at a time."""
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


class Sink(Protocol):
    """Where a blob's bytes go, in any order and from any thread; ``boxshipd.images.ingest.Ingest`` is one."""

    size: int

    def missing(self) -> list[tuple[int, int]]:
        """Offset and length of what isn't there yet."""

    def write_at(self, offset: int, data: bytes | memoryview) -> None:
        """Write some of it."""

    def reset(self) -> None:
        """Throw away what is there."""


async def small(repository: Repository, digest: str, size: int, limit: int) -> bytes:
    """A blob of at most ``limit`` bytes, verified.

    Raises:
        Absent: there is none.
        DigestMismatch: it isn't what its descriptor says.
        BadAnswer: it is too large.
    """
    if size > limit:
        raise BadAnswer(f"blob {digest} has {size} bytes, more than the {limit} allowed")

    async def attempt() -> bytes:
        async with repository.request("GET", f"blobs/{digest}") as response:
            _check_encoding(response, digest)
            return await read_bounded(response, limit, f"blob {digest}")

    data = await retrying(attempt, repository.timing)
    algorithm = parse_digest(digest).algorithm
    actual = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    if len(data) != size or actual != digest:
        raise DigestMismatch(f"content of {len(data)} bytes has digest {actual}, not {digest} of {size} as announced")
    return data


async def exists(repository: Repository, digest: str, scope: str) -> bool:
    """Whether a repository has a blob."""

    async def attempt() -> bool:
        try:
            async with repository.request("HEAD", f"blobs/{digest}", scopes=(scope,)):
                return True
        except Absent:
            return False

    return await retrying(attempt, repository.timing)


class Download:
    """One blob's way from a repository into a sink.

    Args:
        repository: where it is.
        digest: the blob's digest.
        sink: where it goes.
        threads: what writes and hashes.
        arrived: told how many more bytes have come.
        tell: told of waits before further attempts.
    """

    def __init__(
        self,
        repository: Repository,
        digest: str,
        sink: Sink,
        threads: Executor,
        *,
        arrived: Callable[[int], object],
        tell: Tell | None = None,
    ) -> None:
        self._repository = repository
        self._digest = digest
        self._sink = sink
        self._threads = threads
        self._arrived = arrived
        self._tell = tell
        self._ranges = True

    async def run(self) -> None:
        """Bring in all that is missing. What has come is kept whatever happens; whether it is right, its digest says.

        Raises:
            Absent: there is no such blob.
            Unreachable: the registry can't be reached any more.
            DigestMismatch: the blob hasn't the size announced.
            InternalError: the disk is full.
        """
        try:
            while parts := self._parts():
                if len(parts) == 1 or not self._ranges:
                    await self._with_patience(parts[0])
                else:
                    await self._side_by_side(parts)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Nobody can go on with it, and others need the room.
            await self._on_thread(self._sink.reset)
            raise InternalError(f"failed to store blob {self._digest}: {(error.strerror or str(error)).lower()}") from error

    def _parts(self) -> list[tuple[int, int]]:
        """What is missing, cut into parts."""
        return [
            (start, min(PART, offset + length - start))
            for offset, length in self._sink.missing()
            for start in range(offset, offset + length, PART)
        ]

    async def _side_by_side(self, parts: list[tuple[int, int]]) -> None:
        """The first part shows whether there are ranges at all; the rest is shared by a few connections."""
        first = asyncio.Event()
        waiting = iter(parts[1:])

        async def others() -> None:
            await first.wait()
            for part in waiting:
                if not self._ranges:
                    return
                await self._with_patience(part)

        async def leading() -> None:
            try:
                await self._with_patience(parts[0], first.set)
            finally:
                first.set()
            await others()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(leading())
                for _ in range(min(CONNECTIONS, len(parts)) - 1):
                    group.create_task(others())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _with_patience(self, part: tuple[int, int], begun: Callable[[], object] = lambda: None) -> None:
        """Bring in one part, in as many attempts as it takes: only those count that brought next to nothing."""
        offset, end = part[0], sum(part)
        attempt = 0
        while offset < end:
            before = offset
            try:
                async for length in self._attempt(offset, end - offset, begun):
                    offset += length
            except (Unreachable, RegistryBusy) as error:
                attempt = 1 if offset - before >= _PIECE else attempt + 1
                await wait_to_retry(error, attempt, self._repository.timing, self._tell)
            else:
                if not self._ranges:
                    return
                attempt = 0

    async def _attempt(self, offset: int, length: int, begun: Callable[[], object]) -> AsyncIterator[int]:
        """Ask for a range once; how many bytes were written, time after time."""
        whole = offset == 0 and length == self._sink.size
        headers = {} if whole else {"Range": f"bytes={offset}-{offset + length - 1}"}
        target = f"blobs/{self._digest}"
        async with self._repository.request("GET", target, accept=(200, 206, 416), headers=headers) as response:
            _check_encoding(response, self._digest)
            if response.status == 416:
                raise DigestMismatch(f"blob {self._digest} hasn't the {self._sink.size} bytes announced")
            if response.status == 206 and not whole:
                self._check_range(response, offset, length)
                skipped = 0
            else:
                # No ranges here: all of it comes, and what we have already goes by.
                self._ranges = self._ranges and whole
                self._check_whole(response)
                skipped, length = offset, self._sink.size - offset
            begun()
            async for count in self._written(response, offset, length, skipped):
                yield count

    async def _written(self, response: ClientResponse, offset: int, length: int, skipped: int) -> AsyncIterator[int]:
        """Write a body to the sink, each piece while the next one arrives."""
        end = offset + length
        pending: asyncio.Future[None] | None = None
        try:
            async for piece in _pieces(response, skipped):
                if offset + len(piece) > end:
                    raise DigestMismatch(f"blob {self._digest} has more than the {self._sink.size} bytes announced")
                if pending is not None:
                    await pending
                pending = self._on_thread(self._sink.write_at, offset, piece)
                offset += len(piece)
                self._arrived(len(piece))
                yield len(piece)
            if offset < end:
                raise Unreachable(f"blob {self._digest} broke off after {offset} of {self._sink.size} bytes")
        finally:
            if pending is not None:
                await settled(pending)

    def _on_thread(self, function: Callable[..., None], *arguments: object) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _check_range(self, response: ClientResponse, offset: int, length: int) -> None:
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset or int(match[2]) != offset + length - 1:
            raise BadAnswer(f"blob {self._digest}: asked for {length} bytes at {offset}, the registry sends others")
        if match[3] not in ("*", str(self._sink.size)):
            raise DigestMismatch(f"blob {self._digest} has {match[3]} bytes, not {self._sink.size} as announced")

    def _check_whole(self, response: ClientResponse) -> None:
        length = response.content_length
        if length is not None and length != self._sink.size:
            raise DigestMismatch(f"blob {self._digest} has {length} bytes, not {self._sink.size} as announced")


async def settled(work: asyncio.Future[Any]) -> None:
    """Wait for a thread's work however often we are cancelled: it uses what its owner closes next.

    Raises:
        OSError: what the work raised.
    """
    while not work.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    work.result()


async def _pieces(response: ClientResponse, skipped: int) -> AsyncIterator[bytes]:
    """A body in pieces of about a megabyte, without its first ``skipped`` bytes."""
    gathered: list[bytes] = []
    length = 0
    try:
        while data := await response.content.readany():
            if skipped:
                skip = min(skipped, len(data))
                skipped -= skip
                data = data[skip:]
            gathered.append(data)
            length += len(data)
            if length >= _PIECE:
                yield b"".join(gathered)
                gathered, length = [], 0
    except Exception:
        # What has come before the cut needn't come again.
        if length:
            yield b"".join(gathered)
        raise
    if length:
        yield b"".join(gathered)


def _check_encoding(response: ClientResponse, digest: str) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadAnswer(f"blob {digest} comes in a content encoding nobody asked for")
