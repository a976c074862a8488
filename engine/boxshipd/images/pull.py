"""Pulling an image: from a name to a record in the catalogue, with Docker's words about every step.

The layers come, are decompressed and unpacked side by side. What of a blob has come is kept when the pull ends early, for the
next one that wants it.
Source: moby daemon/internal/distribution (pull_v2.go, xfer/download.go), whose messages these are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.images import choice, platform
from boxshipd.images.assembly import Assembly, Build
from boxshipd.images.catalogue import Record
from boxshipd.images.content import Blob
from boxshipd.images.digest import parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.ingest import Ingest
from boxshipd.images.layer_media import LAYERS
from boxshipd.images.model import CONFIG_TYPES, DOCUMENT_LIMIT, Platform
from boxshipd.images.output import Output
from boxshipd.images.reference import Reference
from boxshipd.images.remote import Remote
from boxshipd.images.signatures import RemoteSignatures
from boxshipd.images.workers import Cancellation, Workers
from boxshipd.registry import documents
from boxshipd.registry.blobs import Download
from boxshipd.registry.documents import Document, RemoteDescriptor, RemoteIndex, RemoteManifest
from boxshipd.registry.errors import BadDocument

if TYPE_CHECKING:
    from boxshipd.images.service import Images

_INTERVAL = 0.1
_NESTED = 3
"""How many indexes may lie within each other."""


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


class Puller:
    """Brings images in.

    Args:
        images: the images there are.
        slots: places for downloads.
        threads: what writes and hashes blobs.
    """

    def __init__(self, images: Images, slots: Slots, threads: Workers) -> None:
        self._images = images
        self._catalogue = images.stores.catalogue
        self._slots = slots
        self._threads = threads
        # One download of a blob at a time: whoever comes second finds it there, or goes on where the first stopped.
        self._blobs: defaultdict[str, _Turn] = defaultdict(_Turn)

    async def pull(self, remote: Remote, name: Reference, wanted: Platform | None, output: Output) -> bool:
        """Pull one image.

        Args:
            remote: where it is to be had.
            name: with a tag or a digest.
            wanted: the platform asked for; this machine's where none is.
            output: told of everything.

        Returns:
            Whether anything is new.

        Raises:
            NotFound: there is no such image, or none for the platform.
            RegistryError: it can't be had.
            HostileOrBroken: it can't be used.
            Untrusted: the signature policy doesn't let it in.
        """
        reference = name.digest or name.tag
        trust = self._images.trust
        signed = trust is not None and trust.admit(name)
        known = self._known(name, wanted)
        if known is not None and name.tag and not name.digest and await remote.unchanged(name.tag, known.digest):
            document = known
        else:
            document = await remote.resolve(reference)
        manifest, indexes = await self._choose(remote, document, wanted)
        if trust is not None and signed:
            await trust.verify(name, manifest.digest, manifest.data, RemoteSignatures(remote), indexes=indexes)
        # Not before: an image that can't be had, or isn't let in, is answered with a status of its own.
        output.message(f"Pulling from {name.path}", reference)
        record, fresh = await self._image(remote, name, document, manifest, output)
        output.message(f"Digest: {document.digest}")
        if wanted is not None and not platform.matches(wanted, record.platform):
            output.message(
                f"WARNING: image with reference {name.familiar} was found but its platform "
                f"({platform.describe(record.platform)}) does not match the specified platform ({platform.describe(wanted)})"
            )
        return fresh

    def _known(self, name: Reference, wanted: Platform | None) -> Document | None:
        """The document that a name means here, if the image it leads to is here as well."""
        record = self._catalogue.named(name, wanted)
        if record is None:
            return None
        index = self._catalogue.index_of(name)
        descriptor = index.descriptor if index is not None else record.manifest
        try:
            return documents.read(self._images.stores.content.read(descriptor.digest), descriptor.media_type)
        except (NotFound, InvalidParameter):
            return None

    async def _choose(self, remote: Remote, document: Document, wanted: Platform | None) -> tuple[Document, list[bytes]]:
        """The manifest for a platform, and the indexes that led to it, outermost first."""
        indexes: list[bytes] = []
        for _ in range(_NESTED):
            if not isinstance(document.content, RemoteIndex):
                return document, indexes
            indexes.append(document.data)
            document = await self._document(remote, choice.choose(document.content, wanted or platform.host()))
        raise BadDocument(f"invalid manifest: more than {_NESTED} indexes within each other")

    async def _document(self, remote: Remote, descriptor: RemoteDescriptor) -> Document:
        content = self._images.stores.content
        try:
            data = await asyncio.to_thread(content.read, descriptor.digest)
            return documents.read(data, descriptor.media_type, descriptor.digest)
        except NotFound:
            return await remote.document(descriptor)

    async def _image(
        self, remote: Remote, name: Reference, top: Document, document: Document, output: Output
    ) -> tuple[Record, bool]:
        """Bring the image of a manifest in and give it its names; whether that changed anything."""
        manifest = document.content
        assert isinstance(manifest, RemoteManifest)
        _check_types(manifest)
        cancellation = Cancellation()
        shown: dict[str, str] = {}
        due: dict[str, float] = {}

        def extracted(diff: str, done: int, total: int) -> None:
            cancellation.check()
            now = loop.time()
            if now >= due.get(diff, 0.0) or done == total:
                due[diff] = now + _INTERVAL
                loop.call_soon_threadsafe(output.progress, shown[diff], "Extracting", done, total)

        loop = asyncio.get_running_loop()
        async with self._images.assembling(extracted) as assembly:
            record = self._catalogue.get(manifest.config.digest)
            if record is None or record.manifest.digest != document.digest or not self._claimed(assembly, record):
                config = await self._config(remote, manifest.config)
                build = await self._images.workers.run(lambda: assembly.start(config))
                build.expect(len(manifest.layers))
                _check_system(build)
                diffs = build.config.rootfs.diff_ids
                shown.update({diff: _short(layer.digest) for diff, layer in zip(diffs, manifest.layers, strict=True)})
                await self._layers(remote, manifest.layers, _Site(assembly, build, cancellation, output))
                record = await self._images.workers.run(lambda: build.finish(document.data), cancellation)
            canonical = Reference(name.domain, name.path, "", top.digest)
            names = [canonical] if name.digest else [name, canonical]
            index = top.data if top is not document else None
            return await self._images.adopt(record, names, index)

    def _claimed(self, assembly: Assembly, record: Record) -> bool:
        """Whether all of an image is here, pinned from now on."""
        return all(assembly.session.claim(digest) for digest in sorted(record.blobs))

    async def _config(self, remote: Remote, descriptor: RemoteDescriptor) -> bytes:
        content = self._images.stores.content
        try:
            return await asyncio.to_thread(content.read, descriptor.digest)
        except NotFound:
            return await remote.blob(descriptor.digest, descriptor.size, DOCUMENT_LIMIT)

    async def _layers(self, remote: Remote, layers: list[RemoteDescriptor], site: _Site) -> None:
        """Bring all layers in and unpack them, each as soon as it can be."""
        arrivals: dict[str, asyncio.Task[Blob]] = {}
        present: set[str] = set()
        wanted: set[str] = set()
        for layer, chain in zip(layers, site.build.chains, strict=True):
            if layer.digest in present | wanted:
                continue
            here = site.assembly.session.claim(layer.digest) and self._catalogue.layer(chain) is not None
            (present if here else wanted).add(layer.digest)
            site.output.update(_short(layer.digest), "Already exists" if here else "Pulling fs layer")
        try:
            async with asyncio.TaskGroup() as group:
                for position, layer in enumerate(layers):
                    if layer.digest not in arrivals:
                        arrivals[layer.digest] = group.create_task(self._arrive(remote, layer, site, layer.digest in present))
                    group.create_task(self._unpack(position, layer, arrivals[layer.digest], site, layer.digest in present))
        except BaseExceptionGroup as errors:
            site.cancellation.cancel()
            raise first(errors) from None

    async def _unpack(
        self, position: int, layer: RemoteDescriptor, arrival: asyncio.Task[Blob], site: _Site, quiet: bool
    ) -> None:
        # Shielded: cancelled as a task of the group, not through each of those who wait for it.
        blob = await asyncio.shield(arrival)
        await self._images.workers.run(lambda: site.build.layer(position, blob), site.cancellation)
        if not quiet:
            # After what the thread has said of its progress.
            asyncio.get_running_loop().call_soon(site.output.update, _short(layer.digest), "Pull complete")

    async def _arrive(self, remote: Remote, layer: RemoteDescriptor, site: _Site, quiet: bool) -> Blob:
        """See to it that a layer's blob is in the content store."""
        content, session, subject = self._images.stores.content, site.assembly.session, _short(layer.digest)
        turn = self._blobs[layer.digest]
        turn.users += 1
        try:
            async with turn.lock:
                if not session.claim(layer.digest):
                    async with self._slots.one(lambda: site.output.update(subject, "Waiting")):
                        with session.ingest(layer.digest, layer.size) as ingest:
                            await self._download(remote, layer, ingest, site.output)
                elif content.size(layer.digest) != layer.size:
                    raise DigestMismatch(
                        f"layer {layer.digest} has {content.size(layer.digest)} bytes, listed with {layer.size}"
                    )
                if not quiet:
                    site.output.update(subject, "Download complete")
        finally:
            turn.users -= 1
            if not turn.users:
                self._blobs.pop(layer.digest, None)
        return Blob(layer.digest, layer.size)

    async def _download(self, remote: Remote, layer: RemoteDescriptor, ingest: Ingest, output: Output) -> None:
        subject = _short(layer.digest)
        resumed = any_there(ingest)
        for last in (False, True) if resumed else (True,):
            there = layer.size - sum(length for _, length in ingest.missing())

            def arrived(count: int) -> None:
                nonlocal there
                there += count
                output.progress(subject, "Downloading", there, layer.size)

            await remote.fetch(
                lambda place: Download(
                    place,
                    layer.digest,
                    ingest,
                    self._threads.pool,
                    arrived=arrived,
                    tell=lambda text: output.update(subject, text),
                ).run()
            )
            output.update(subject, "Verifying Checksum")
            try:
                await self._threads.run(ingest.commit)
                return
            except DigestMismatch as error:
                # What an earlier attempt had left may be the damaged part; it is gone now.
                if last:
                    raise DigestMismatch(f"filesystem layer verification failed for digest {layer.digest}: {error}") from error


class _Turn:
    """Whose turn it is to download a blob."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class _Site:
    """What the work on one image's layers shares."""

    def __init__(self, assembly: Assembly, build: Build, cancellation: Cancellation, output: Output) -> None:
        self.assembly = assembly
        self.build = build
        self.cancellation = cancellation
        self.output = output


def any_there(ingest: Ingest) -> bool:
    """Whether something of a blob has come before."""
    return sum(length for _, length in ingest.missing()) < ingest.size


def _check_types(manifest: RemoteManifest) -> None:
    """Refuse what isn't an image, though it is in a registry."""
    media_type = manifest.config.media_type
    if media_type not in CONFIG_TYPES:
        kind = "plugin" if media_type == "application/vnd.docker.plugin.v1+json" else "unknown"
        raise BadDocument(f'Encountered remote "{media_type}"({kind}) when fetching')
    for layer in manifest.layers:
        if layer.media_type not in LAYERS:
            raise BadDocument(f"invalid manifest: layer {layer.digest} is of unsupported media type {layer.media_type!r}")


def _check_system(build: Build) -> None:
    system = build.config.os
    if system not in ("", "linux"):
        raise InvalidParameter(
            f'image operating system "{system}" cannot be used on this platform: operating system is not supported'
        )


def _short(digest: str) -> str:
    return parse_digest(digest).hex[:12]


def first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that the others follow from."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
