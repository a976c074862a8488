"""Blobs into a registry: mounted from another of its repositories, or sent in chunks that can be gone on with.

Source: OCI distribution specification 1.1, "Pushing blobs", "Pushing a blob in chunks", "Mounting a blob from another
repository"; distribution docs/spec/api.md ("Resumable upload", "Upload Progress").
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import TypeVar

from aiohttp import ClientResponse
from yarl import URL

from boxshipd.registry.blobs import settled
from boxshipd.registry.errors import Absent, BadAnswer, Refused, RegistryBusy, RegistryError, Unreachable
from boxshipd.registry.repository import Repository
from boxshipd.registry.timing import Tell, retrying, wait_to_retry

_T = TypeVar("_T")

CHUNK = 64 << 20
"""The bytes that are sent at once."""
_PIECE = 1 << 20
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})")


async def mount(repository: Repository, digest: str, source: str) -> URL | None:
    """Take a blob over from another repository of the same registry, without sending it.

    Args:
        repository: where it is to be.
        digest: the blob's digest.
        source: the other repository's name.

    Returns:
        None where that is done; where to send the blob to, where the registry would rather have it sent.
    """
    query = {"mount": digest, "from": source}
    scopes = (repository.scope("pull", "push"), repository.scope("pull", repository=source))
    return await _begin(repository, query, scopes)


class Upload:
    """One blob's way from a file into a repository.

    Args:
        repository: where it goes.
        digest: the blob's digest.
        path: the file.
        size: its length in bytes.
        threads: what reads the file.
        sent: told how many bytes are there by now.
        tell: told of waits before further attempts.
    """

    def __init__(
        self,
        repository: Repository,
        digest: str,
        path: str,
        size: int,
        threads: Executor,
        *,
        sent: Callable[[int], object],
        tell: Tell | None = None,
    ) -> None:
        self._repository = repository
        self._digest = digest
        self._path = path
        self._size = size
        self._threads = threads
        self._sent = sent
        self._tell = tell
        self._scopes = (repository.scope("pull", "push"),)
        self._chunk = CHUNK
        self._reading: asyncio.Future[bytes] | None = None

    async def run(self, location: URL | None = None) -> None:
        """Send it. A cut costs what had not reached the registry.

        Args:
            location: an upload that has been begun already.

        Raises:
            RegistryError: the registry doesn't take it.
        """
        file = await self._on_thread(lambda: os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))
        offset, attempt = 0, 0
        try:
            while True:
                before = offset
                try:
                    if location is None:
                        location, offset = await self._start(), 0
                    while offset < self._size:
                        location, offset = await self._send(file, location, offset)
                        attempt = 0
                    await self._finish(location)
                    return
                except (Unreachable, RegistryBusy) as error:
                    attempt += 1
                    await wait_to_retry(error, attempt, self._repository.timing, self._tell)
                    location, offset = await self._where(location)
                    attempt = 1 if offset > before else attempt
                except Refused as error:
                    # The registry has lost the upload (404) or has another idea of how far it is (416).
                    attempt += 1
                    if error.status not in (404, 416) or location is None or attempt >= self._repository.timing.attempts:
                        raise
                    location, offset = await self._where(location)
        finally:
            if self._reading is not None:
                with contextlib.suppress(OSError):
                    await settled(self._reading)
            os.close(file)

    async def _start(self) -> URL:
        location = await _begin(self._repository, {}, self._scopes, self._note_minimum)
        assert location is not None
        return location

    async def _send(self, file: int, location: URL, offset: int) -> tuple[URL, int]:
        """Send one chunk; where the next one goes, and how much is there."""
        length = min(self._chunk, self._size - offset)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(length),
            "Content-Range": f"{offset}-{offset + length - 1}",
        }
        async with (
            _Watch(self._repository.timing.stall) as watch,
            self._repository.request(
                "PATCH",
                location,
                accept=(202, 204),
                scopes=self._scopes,
                headers=headers,
                body=lambda: self._read(file, offset, length, watch),
                slow=True,
            ) as response,
        ):
            there = _there(response, offset + length)
            if not offset <= there <= self._size:
                raise BadAnswer(f"the registry says it has {there} bytes of blob {self._digest}, which has {self._size}")
            self._sent(there)
            return _location(self._repository, response), there

    async def _read(self, file: int, offset: int, length: int, watch: _Watch) -> AsyncIterator[bytes]:
        """A piece of the file, read ahead while the last one is sent."""
        end = offset + length
        following = self._piece(file, offset, end)
        while offset < end:
            data = await following
            if not data:
                raise RegistryError(f"blob {self._digest} is shorter than its {self._size} bytes")
            following = self._piece(file, offset + len(data), end)
            watch.moved()
            yield data
            offset += len(data)
            self._sent(offset)
        watch.ended()

    def _piece(self, file: int, offset: int, end: int) -> asyncio.Future[bytes]:
        self._reading = self._on_thread(lambda: os.pread(file, min(_PIECE, end - offset), offset))
        return self._reading

    async def _where(self, location: URL | None) -> tuple[URL | None, int]:
        """How far an upload has come; from the beginning where nobody knows any more."""
        if location is None:
            return None, 0
        try:
            async with self._repository.request("GET", location, accept=(204,), scopes=self._scopes) as response:
                there = _there(response, 0)
                if there > self._size:
                    return None, 0
                self._sent(there)
                return _location(self._repository, response, location), there
        except (Absent, Refused, BadAnswer, Unreachable):
            return None, 0

    async def _finish(self, location: URL) -> None:
        async with self._repository.request(
            "PUT",
            location.update_query({"digest": self._digest}),
            accept=(201, 204),
            scopes=self._scopes,
            headers={"Content-Type": "application/octet-stream", "Content-Length": "0"},
            slow=True,
        ) as response:
            taken = response.headers.get("Docker-Content-Digest", self._digest)
            if taken != self._digest:
                raise BadAnswer(f"the registry has taken blob {self._digest} as {taken}")

    def _note_minimum(self, response: ClientResponse) -> None:
        minimum = response.headers.get("OCI-Chunk-Min-Length", "")
        if minimum.isascii() and minimum.isdecimal():
            self._chunk = max(self._chunk, int(minimum[:12]))

    def _on_thread(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function)


class _Watch:
    """Ends the block where sending hasn't moved for so long: nobody else sees to that."""

    def __init__(self, stall: float) -> None:
        self._stall = stall
        self._timeout = asyncio.timeout(stall)

    def moved(self) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time() + self._stall)

    def ended(self) -> None:
        self._timeout.reschedule(None)

    async def __aenter__(self) -> _Watch:
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._timeout.__aexit__(*error)  # type: ignore[arg-type]
        except TimeoutError as stalled:
            raise Unreachable("the transfer has stalled") from stalled


async def _begin(
    repository: Repository,
    query: dict[str, str],
    scopes: tuple[str, ...],
    look: Callable[[ClientResponse], object] = lambda _: None,
) -> URL | None:
    async def attempt() -> URL | None:
        target = URL("blobs/uploads/").update_query(query)
        async with repository.request(
            "POST", str(target), accept=(201, 202), scopes=scopes, headers={"Content-Length": "0"}
        ) as response:
            look(response)
            if response.status == 201 and query:
                return None
            return _location(repository, response)

    return await retrying(attempt, repository.timing)


def _location(repository: Repository, response: ClientResponse, default: URL | None = None) -> URL:
    text = response.headers.get("Location", "")
    if not text:
        if default is not None:
            return default
        raise BadAnswer(f"registry {repository.endpoint.certificates} doesn't say where an upload goes")
    try:
        return response.url.join(URL(text, encoded=True))
    except ValueError:
        raise BadAnswer(f"registry {repository.endpoint.certificates} names a location that isn't an address") from None


def _there(response: ClientResponse, default: int) -> int:
    """How many bytes an upload has, as ``Range`` says (``0-0`` is said of none as well as of one)."""
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    if match is None:
        return default
    last = int(match[1])
    return last + 1 if last else default if default <= 1 else 0
