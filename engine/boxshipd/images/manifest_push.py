"""Putting a manifest or an index that a client has made, after taking what it refers to over from other repositories.

Source: docker/cli cli/command/manifest/push.go, whose work this is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from boxshipd.errors import InvalidParameter
from boxshipd.images.workers import Workers
from boxshipd.registry import blobs, manifests, uploads
from boxshipd.registry.blobs import Download
from boxshipd.registry.documents import Document, RemoteDescriptor, RemoteManifest
from boxshipd.registry.errors import Refused, RegistryBusy
from boxshipd.registry.repository import Repository

if TYPE_CHECKING:
    from boxshipd.images.service import Images


class ManifestPusher:
    """Puts manifests and indexes.

    Args:
        images: where blobs are kept that can't be mounted and pass through here.
        threads: what writes and reads them.
    """

    def __init__(self, images: Images, threads: Workers) -> None:
        self._content = images.stores.content
        self._threads = threads

    async def push(self, target: Repository, reference: str, document: Document, sources: Mapping[str, Repository]) -> None:
        """Put a document under a tag or its digest.

        Args:
            target: where to.
            reference: the tag or digest.
            document: the manifest or index.
            sources: by digest, where manifests that an index lists are. What isn't in here must be in ``target``.

        Raises:
            InvalidParameter: something that is referred to is nowhere.
            RegistryError: the registry doesn't take it.
        """
        if not isinstance(document.content, RemoteManifest):
            for descriptor in document.content.manifests:
                await self._bring(target, descriptor, sources.get(descriptor.digest))
        await manifests.put(target, reference, document)

    async def _bring(self, target: Repository, descriptor: RemoteDescriptor, source: Repository | None) -> None:
        scopes = (target.scope("pull", "push"),)
        if await manifests.exists(target, descriptor.digest, scopes):
            return
        if source is None:
            raise InvalidParameter(f"manifest {descriptor.digest} is not in {target.name}, and no source was named for it")
        document = await manifests.get(source, descriptor.digest)
        content = document.content
        if isinstance(content, RemoteManifest):
            for blob in {part.digest: part for part in (content.config, *content.layers)}.values():
                await self._copy(target, blob, source)
        else:
            for inner in content.manifests:
                await self._bring(target, inner, source)
        await manifests.put(target, descriptor.digest, document)

    async def _copy(self, target: Repository, blob: RemoteDescriptor, source: Repository) -> None:
        """Mount a blob; where the registry doesn't, send it through here."""
        if await blobs.exists(target, blob.digest, target.scope("pull", "push")):
            return
        location = None
        try:
            location = await uploads.mount(target, blob.digest, source.name)
            if location is None:
                return
        except RegistryBusy:
            raise
        except Refused:
            pass
        with self._content.session() as session:
            if not session.claim(blob.digest):
                with session.ingest(blob.digest, blob.size) as ingest:
                    await Download(source, blob.digest, ingest, self._threads.pool, arrived=lambda _: None).run()
                    await self._threads.run(ingest.commit)
            path = self._content.path(blob.digest)
            upload = uploads.Upload(target, blob.digest, path, blob.size, self._threads.pool, sent=lambda _: None)
            await upload.run(location)
