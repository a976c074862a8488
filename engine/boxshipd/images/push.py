"""Pushing an image: its blobs, each by the cheapest way there is, then its manifest, with Docker's words about every step.

What goes out is what came in, byte by byte: an image keeps its digest wherever it is pushed to. An image that was pulled for
all the platforms of its index is pushed with that index.
Source: moby daemon/internal/distribution (push.go, push_v2.go), whose messages these are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

from boxshipd.errors import NotFound
from boxshipd.images import artifacts, lookup
from boxshipd.images.catalogue import IndexRecord, Record
from boxshipd.images.digest import parse_digest
from boxshipd.images.layer_media import foreign
from boxshipd.images.model import Platform
from boxshipd.images.output import Output
from boxshipd.images.pull_layers import Slots, first
from boxshipd.images.reference import Reference
from boxshipd.images.workers import Workers
from boxshipd.registry import blobs, documents, manifests, uploads
from boxshipd.registry.documents import Document, RemoteDescriptor, RemoteManifest
from boxshipd.registry.errors import Refused, RegistryBusy
from boxshipd.registry.repository import Repository

if TYPE_CHECKING:
    from boxshipd.images.service import Images

_MOUNTS = 3
"""From how many repositories a blob is tried to be mounted, before it is sent."""


class PushResult(Struct, rename="pascal", frozen=True):
    """What a push tells programs at its end."""

    tag: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Selected:
    """What a tag stands for when it is pushed: an image, or all images of an index."""

    name: Reference
    records: tuple[Record, ...]
    index: IndexRecord | None


class Pusher:
    """Takes images out.

    Args:
        images: the images there are.
        slots: places for uploads.
        threads: what reads blobs.
    """

    def __init__(self, images: Images, slots: Slots, threads: Workers) -> None:
        self._images = images
        self._catalogue = images.stores.catalogue
        self._content = images.stores.content
        self._slots = slots
        self._threads = threads

    def select(self, name: Reference, wanted: Platform | None) -> list[Selected]:
        """What is to be pushed under a name; all tags of the repository where it has none.

        Raises:
            NotFound: there is nothing.
        """
        names = [name] if name.tag else [found for found, _ in self._catalogue.names_in(name.name) if found.tag]
        selected = [self._meant(one, wanted) for one in names]
        if not selected:
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        return selected

    def _meant(self, name: Reference, wanted: Platform | None) -> Selected:
        record = self._catalogue.named(name, wanted)
        if record is None:
            known = self._catalogue.named(name)
            if known is not None and wanted is not None:
                lookup.check_platform(known, name.familiar, wanted)
            raise NotFound(f"An image does not exist locally with the tag: {name.familiar_name}")
        index = self._catalogue.index_of(name)
        if wanted is None and index is not None:
            here = {variant.manifest.digest: variant for variant in self._catalogue.variants(name)}
            if all(entry.digest in here or entry.digest in index.attached for entry in index.manifests):
                return Selected(name, tuple(here[entry.digest] for entry in index.manifests if entry.digest in here), index)
        return Selected(name, (record,), None)

    async def push(self, place: Repository, name: Reference, selected: Sequence[Selected], output: Output) -> None:
        """Push what was selected.

        Raises:
            RegistryError: the registry doesn't take it.
        """
        output.message(f"The push refers to repository [{name.name}]")
        for one in selected:
            with ExitStack() as held:
                for record in one.records:
                    held.enter_context(self._images.holding(record.id))
                await self._push(place, one, output)

    async def _push(self, place: Repository, selected: Selected, output: Output) -> None:
        found: list[Document] = []
        for record in selected.records:
            data = await asyncio.to_thread(self._content.read, record.manifest.digest)
            found.append(documents.read(data, record.manifest.media_type, record.manifest.digest))
        await self._blobs(place, selected, found, output)
        top = found[0]
        if selected.index is not None:
            for document in found:
                await manifests.put(place, document.digest, document)
            await self._attestations(place, selected.index)
            described = selected.index.descriptor
            data = await asyncio.to_thread(self._content.read, described.digest)
            top = documents.read(data, described.media_type, described.digest)
        await manifests.put(place, selected.name.tag, top)
        canonical = Reference(selected.name.domain, selected.name.path, "", top.digest)
        for record in selected.records:
            await self._images.adopt(record, [canonical], top.data if selected.index is not None else None)
        output.message(f"{selected.name.tag}: digest: {top.digest} size: {len(top.data)}")
        output.aux(PushResult(selected.name.tag, top.digest, len(top.data)))
        self._images.announce("push", selected.records[0], selected.name)

    async def _attestations(self, place: Repository, index: IndexRecord) -> None:
        """Bring there what an index lists beside its images."""
        with self._content.session() as session:
            for digest in index.blobs:
                session.claim(digest)
            for entry in index.manifests:
                if entry.digest in index.attached:
                    data = await asyncio.to_thread(self._content.read, entry.digest)
                    document = documents.read(data, entry.media_type, entry.digest)
                    await artifacts.put(place, entry.digest, document, self._content, self._threads, self._slots)

    async def _blobs(self, place: Repository, selected: Selected, found: Sequence[Document], output: Output) -> None:
        """Bring all blobs of all manifests there, side by side."""
        wanted: dict[str, tuple[RemoteDescriptor, str]] = {}
        for record, document in zip(selected.records, found, strict=True):
            manifest = document.content
            assert isinstance(manifest, RemoteManifest)
            # Docker begins with the topmost layer, and names layers by their content.
            for layer, known in reversed([*zip(manifest.layers, record.layers, strict=True)]):
                if layer.digest not in wanted:
                    wanted[layer.digest] = layer, parse_digest(known.diff).hex[:12]
                    output.update(wanted[layer.digest][1], "Preparing")
            wanted.setdefault(manifest.config.digest, (manifest.config, ""))
        try:
            async with asyncio.TaskGroup() as group:
                for descriptor, shown in wanted.values():
                    group.create_task(self._blob(place, selected.name, descriptor, _Layer(output, shown)))
        except BaseExceptionGroup as errors:
            raise first(errors) from None

    async def _blob(self, place: Repository, name: Reference, descriptor: RemoteDescriptor, layer: _Layer) -> None:
        if foreign(descriptor.media_type) and descriptor.urls:
            layer.update("Skipped foreign layer")
            return
        async with self._slots.one(lambda: layer.update("Waiting")):
            if await blobs.exists(place, descriptor.digest, place.scope("pull", "push")):
                layer.update("Layer already exists")
                return
            location = None
            for source in self._sources(name, descriptor.digest):
                try:
                    location = await uploads.mount(place, descriptor.digest, source.path)
                except Refused as error:
                    # No right to pull there, or no such repository: then it is sent.
                    if isinstance(error, RegistryBusy):
                        raise
                    continue
                if location is None:
                    layer.update(f"Mounted from {source.path}")
                    return
            await uploads.Upload(
                place,
                descriptor.digest,
                self._content.path(descriptor.digest),
                descriptor.size,
                self._threads.pool,
                sent=lambda count: layer.progress("Pushing", count, descriptor.size),
                tell=layer.update,
            ).run(location)
            layer.update("Pushed")

    def _sources(self, name: Reference, digest: str) -> list[Reference]:
        """Other repositories of the same registry that an image with this blob was pulled from or pushed to."""
        found: dict[str, Reference] = {}
        for record in self._catalogue.records():
            if digest in record.blobs:
                for other in self._catalogue.names_of(record.id):
                    # Only a name by digest tells that the image has been there.
                    if other.digest and other.domain == name.domain and other.path != name.path:
                        found.setdefault(other.path, other)
        return [*found.values()][:_MOUNTS]


class _Layer:
    """A layer's lines in the output; nothing is said of a configuration."""

    def __init__(self, output: Output, subject: str) -> None:
        self._output = output
        self._subject = subject

    def update(self, action: str) -> None:
        if self._subject:
            self._output.update(self._subject, action)

    def progress(self, action: str, current: int, total: int) -> None:
        if self._subject:
            self._output.progress(self._subject, action, current, total)
