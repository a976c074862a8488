"""Pulling an image: from a name to a record in the catalogue, with Docker's words about every step.

The layers come, are decompressed and unpacked side by side. What of a blob has come is kept when the pull ends early, for the
next one that wants it.
Source: moby daemon/internal/distribution (pull_v2.go, xfer/download.go), whose messages these are.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING

from boxshipd.errors import InternalError, InvalidParameter, NotFound
from boxshipd.images import choice, platform
from boxshipd.images.assembly import Assembly, Build
from boxshipd.images.catalogue import Record
from boxshipd.images.layer_media import LAYERS
from boxshipd.images.model import CONFIG_TYPES, DOCUMENT_LIMIT, ImageConfig, Platform, decode
from boxshipd.images.output import Output
from boxshipd.images.pull_layers import LayerPull, Slots, Tools
from boxshipd.images.reference import Reference
from boxshipd.images.remote import Remote
from boxshipd.images.signatures import RemoteSignatures
from boxshipd.images.workers import Cancellation, Workers
from boxshipd.registry import documents
from boxshipd.registry.documents import Document, RemoteDescriptor, RemoteIndex, RemoteManifest
from boxshipd.registry.errors import BadDocument

if TYPE_CHECKING:
    from boxshipd.images.service import Images

_NESTED = 3
"""How many indexes may lie within each other."""


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
        self._tools = Tools(slots, threads)

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
            Untrusted: the signature policy doesn't let it in.
            RegistryError: it can't be had.
            HostileOrBroken: it can't be used.
            InternalError: the disk refuses.
        """
        reference = name.digest or name.tag
        document, manifest = await self._admitted(remote, name, wanted)
        # Not before: an image that can't be had, or isn't let in, is answered with a status of its own.
        output.message(f"Pulling from {name.path}", reference)
        try:
            record, fresh = await self._image(remote, name, document, manifest, output)
        except OSError as error:
            # Connections' errors have names of their own by now: this one is the disk's.
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # Others need the room more than the next pull needs what has come.
                await self._images.workers.run(self._images.stores.content.discard_partial)
            raise InternalError(f"failed to store {name.familiar}: {(error.strerror or str(error)).lower()}") from error
        output.message(f"Digest: {document.digest}")
        if wanted is not None and not platform.matches(wanted, record.platform):
            output.message(
                f"WARNING: image with reference {name.familiar} was found but its platform "
                f"({platform.describe(record.platform)}) does not match the specified platform ({platform.describe(wanted)})"
            )
        return fresh

    async def describe(self, remote: Remote, name: Reference, wanted: Platform | None) -> tuple[str, ImageConfig]:
        """What an image would be, of which nothing but its documents is fetched.

        Args:
            remote: where it is to be had.
            name: with a tag or a digest.
            wanted: the platform asked for; this machine's where none is.

        Returns:
            The digest that the name means now, and the configuration for the platform.

        Raises:
            NotFound: there is no such image, or none for the platform.
            Untrusted: the signature policy doesn't let it in.
            RegistryError: it can't be had.
            HostileOrBroken: it can't be used.
        """
        document, manifest = await self._admitted(remote, name, wanted)
        content = manifest.content
        assert isinstance(content, RemoteManifest)
        _check_types(content)
        data = await self._config(remote, content.config)
        return document.digest, decode(ImageConfig, data, "image configuration")

    async def _admitted(self, remote: Remote, name: Reference, wanted: Platform | None) -> tuple[Document, Document]:
        """The document that a name means, and the manifest for a platform, which the signature policy lets in."""
        trust = self._images.trust
        signed = trust is not None and trust.admit(name)
        known = self._known(name, wanted)
        if known is not None and name.tag and not name.digest and await remote.unchanged(name.tag, known.digest):
            document = known
        else:
            document = await remote.resolve(name.digest or name.tag)
        manifest, indexes = await self._choose(remote, document, wanted)
        if trust is not None and signed:
            await trust.verify(name, manifest.digest, manifest.data, RemoteSignatures(remote), indexes=indexes)
        return document, manifest

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
        told: list[LayerPull] = []

        def extracted(diff: str, done: int, total: int) -> None:
            cancellation.check()
            for work in told:
                work.extracted(diff, done, total)

        async with self._images.assembling(extracted) as assembly:
            record = self._catalogue.get(manifest.config.digest)
            if record is None or record.manifest.digest != document.digest or not self._claimed(assembly, record):
                config = await self._config(remote, manifest.config)
                build = await self._images.workers.run(lambda: assembly.start(config))
                build.expect(len(manifest.layers))
                _check_system(build)
                work = LayerPull(self._images, self._tools, remote, assembly, build, cancellation, output)
                told.append(work)
                await work.run(manifest.layers)
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
