"""Manifests in registries that are no images: what they list, and putting one there.

Source: OCI image specification 1.1, manifest.md, "Guidelines for Artifact Usage".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from boxshipd.errors import InvalidParameter
from boxshipd.images.content import ContentStore, Session
from boxshipd.images.pull_layers import Slots
from boxshipd.images.remote import Remote
from boxshipd.images.workers import Workers
from boxshipd.registry import blobs, manifests, uploads
from boxshipd.registry.blobs import Download
from boxshipd.registry.documents import Document, RemoteDescriptor, RemoteManifest
from boxshipd.registry.repository import Repository


class Artifact:
    """A manifest, and access to what it lists.

    Args:
        remote: where it is.
        document: the manifest or index.
        slots: places for downloads.
        threads: what writes blobs.
    """

    def __init__(self, remote: Remote, document: Document, slots: Slots, threads: Workers) -> None:
        self._remote = remote
        self._slots = slots
        self._threads = threads
        self.document = document

    async def manifest(self, descriptor: RemoteDescriptor) -> Artifact:
        """A manifest that this one, an index, lists.

        Raises:
            RegistryError: it can't be had.
        """
        return Artifact(self._remote, await self._remote.document(descriptor), self._slots, self._threads)

    async def read(self, descriptor: RemoteDescriptor, limit: int) -> bytes:
        """A small blob.

        Raises:
            RegistryError: it can't be had, or has more than ``limit`` bytes.
        """
        return await self._remote.blob(descriptor.digest, descriptor.size, limit)

    async def bring(self, session: Session, digest: str, size: int) -> None:
        """Have a blob in the content store, pinned by ``session``.

        Raises:
            RegistryError: it can't be had.
            DigestMismatch: it isn't what it should be.
        """
        async with self._slots.one(lambda: None):
            with session.ingest(digest, size) as ingest:
                await self._remote.fetch(
                    lambda place: Download(place, digest, ingest, self._threads.pool, arrived=lambda _: None).run()
                )
                await self._threads.run(ingest.commit)


async def put(  # noqa: PLR0917 - what comes together here
    place: Repository, reference: str, document: Document, content: ContentStore, threads: Workers, slots: Slots
) -> None:
    """Put a manifest there, after the blobs that it lists.

    Args:
        place: where to.
        reference: a tag or a digest.
        document: the manifest.
        content: has the blobs, pinned.
        threads: what reads them.
        slots: places for uploads.

    Raises:
        RegistryError: the registry doesn't take it.
    """
    manifest = document.content
    if not isinstance(manifest, RemoteManifest):
        raise InvalidParameter("an index lists no blobs")
    parts: Mapping[str, RemoteDescriptor] = {part.digest: part for part in (manifest.config, *manifest.layers)}

    async def send(part: RemoteDescriptor) -> None:
        async with slots.one(lambda: None):
            if not await blobs.exists(place, part.digest, place.scope("pull", "push")):
                path = content.path(part.digest)
                await uploads.Upload(place, part.digest, path, part.size, threads.pool, sent=lambda _: None).run()

    try:
        async with asyncio.TaskGroup() as group:
            for part in parts.values():
                group.create_task(send(part))
    except ExceptionGroup as failures:
        failure = failures.exceptions[0]
    else:
        await manifests.put(place, reference, document)
        return
    raise failure
