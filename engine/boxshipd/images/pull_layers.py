"""The layers of one image that is pulled: they come, are decompressed and unpacked side by side.

Source: moby daemon/internal/distribution/xfer/download.go, whose messages these are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from boxshipd.images.assembly import Assembly, Build
from boxshipd.images.blob import Blob
from boxshipd.images.digest import parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.ingest import Ingest
from boxshipd.images.output import Output
from boxshipd.images.remote import Remote
from boxshipd.images.workers import Cancellation, Workers
from boxshipd.registry.blobs import Download
from boxshipd.registry.documents import RemoteDescriptor

if TYPE_CHECKING:
    from boxshipd.images.service import Images

_INTERVAL = 0.1


class Slots:
    """How many blobs are on their way at once, of all pulls or pushes together."""

    def __init__(self, count: int) -> None:
        self.resize(count)

    def resize(self, count: int) -> None:
        """Change the number, for what comes from now on; 0 is no limit."""
        self._semaphore = asyncio.Semaphore(count or 1 << 30)

    @asynccontextmanager
    async def one(self, waiting: Callable[[], object]) -> AsyncIterator[None]:
        """Take a place, telling ``waiting`` first where none is free."""
        semaphore = self._semaphore
        if semaphore.locked():
            waiting()
        async with semaphore:
            yield


class Turn:
    """Whose turn it is to download a blob."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Tools:
    """What all pulls share.

    Args:
        slots: places for downloads.
        threads: what writes and hashes blobs.

    Attributes:
        slots: see above.
        threads: see above.
        turns: one download of a blob at a time: whoever comes second finds it there, or goes on where the first stopped.
    """

    def __init__(self, slots: Slots, threads: Workers) -> None:
        self.slots = slots
        self.threads = threads
        self.turns: defaultdict[str, Turn] = defaultdict(Turn)


class LayerPull:
    """The layers of one image, on their way in.

    Args:
        images: the images there are.
        tools: what all pulls share.
        remote: where the image is to be had.
        assembly: what it is put together in.
        build: the image.
        cancellation: ends the threads at work on it.
        output: told of everything.
    """

    def __init__(  # noqa: PLR0917 - what comes together here
        self,
        images: Images,
        tools: Tools,
        remote: Remote,
        assembly: Assembly,
        build: Build,
        cancellation: Cancellation,
        output: Output,
    ) -> None:
        self._images = images
        self._tools = tools
        self._remote = remote
        self._assembly = assembly
        self._build = build
        self._cancellation = cancellation
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._present: set[str] = set()
        self._shown: dict[str, str] = {}
        self._due: dict[str, float] = {}

    async def run(self, layers: Sequence[RemoteDescriptor]) -> None:
        """Bring all layers in and unpack them, each as soon as it can be.

        Raises:
            RegistryError: one can't be had.
            HostileOrBroken: one can't be used.
        """
        self._announce(layers)
        arrivals: dict[str, asyncio.Task[Blob]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for position, layer in enumerate(layers):
                    if layer.digest not in arrivals:
                        arrivals[layer.digest] = group.create_task(self._arrive(layer))
                    group.create_task(self._unpack(position, layer, arrivals[layer.digest]))
        except BaseExceptionGroup as errors:
            self._cancellation.cancel()
            raise first(errors) from None

    def extracted(self, diff: str, done: int, total: int) -> None:
        """On a worker's thread: so much of a layer's blob has been unpacked."""
        now = self._loop.time()
        if now >= self._due.get(diff, 0.0) or done == total:
            self._due[diff] = now + _INTERVAL
            self._loop.call_soon_threadsafe(self._output.progress, self._shown[diff], "Extracting", done, total)

    def _announce(self, layers: Sequence[RemoteDescriptor]) -> None:
        catalogue = self._images.stores.catalogue
        wanted: set[str] = set()
        diffs = self._build.config.rootfs.diff_ids
        for layer, chain, diff in zip(layers, self._build.chains, diffs, strict=True):
            self._shown[diff] = _short(layer.digest)
            if layer.digest in self._present | wanted:
                continue
            here = self._assembly.session.claim(layer.digest) and catalogue.layer(chain) is not None
            (self._present if here else wanted).add(layer.digest)
            self._output.update(_short(layer.digest), "Already exists" if here else "Pulling fs layer")

    async def _unpack(self, position: int, layer: RemoteDescriptor, coming: asyncio.Task[Blob]) -> None:
        # Shielded: cancelled as a task of the group, not through each of those who wait for it.
        blob = await asyncio.shield(coming)
        await self._images.workers.run(lambda: self._build.layer(position, blob), self._cancellation)
        if layer.digest not in self._present:
            # After what the thread has said of its progress.
            self._loop.call_soon(self._output.update, _short(layer.digest), "Pull complete")

    async def _arrive(self, layer: RemoteDescriptor) -> Blob:
        """See to it that a layer's blob is in the content store."""
        content, session, subject = self._images.stores.content, self._assembly.session, _short(layer.digest)
        turn = self._tools.turns[layer.digest]
        turn.users += 1
        try:
            async with turn.lock:
                if not session.claim(layer.digest):
                    async with self._tools.slots.one(lambda: self._output.update(subject, "Waiting")):
                        with session.ingest(layer.digest, layer.size) as ingest:
                            await self._download(layer, ingest)
                elif content.size(layer.digest) != layer.size:
                    size = content.size(layer.digest)
                    raise DigestMismatch(f"layer {layer.digest} has {size} bytes, listed with {layer.size}")
                if layer.digest not in self._present:
                    self._output.update(subject, "Download complete")
        finally:
            turn.users -= 1
            if not turn.users:
                self._tools.turns.pop(layer.digest, None)
        return Blob(layer.digest, layer.size)

    async def _download(self, layer: RemoteDescriptor, ingest: Ingest) -> None:
        subject = _short(layer.digest)
        for last in (False, True) if _begun(ingest) else (True,):
            there = layer.size - sum(length for _, length in ingest.missing())

            def arrived(count: int) -> None:
                nonlocal there
                there += count
                self._output.progress(subject, "Downloading", there, layer.size)

            await self._remote.fetch(
                lambda place: Download(
                    place,
                    layer.digest,
                    ingest,
                    self._tools.threads.pool,
                    arrived=arrived,
                    tell=lambda text: self._output.update(subject, text),
                ).run()
            )
            self._output.update(subject, "Verifying Checksum")
            try:
                await self._tools.threads.run(ingest.commit)
            except DigestMismatch as error:
                # What an earlier attempt had left may be the damaged part; it is gone now.
                if last:
                    raise DigestMismatch(f"filesystem layer verification failed for digest {layer.digest}: {error}") from error
            else:
                return


def _begun(ingest: Ingest) -> bool:
    """Whether something of a blob has come before."""
    return sum(length for _, length in ingest.missing()) < ingest.size


def _short(digest: str) -> str:
    return parse_digest(digest).hex[:12]


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that the others follow from."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
