"""Taking a build's cache from elsewhere and there: registries, directories of the client's, images."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from boxship.types.registry import AuthConfig
from msgspec import UNSET, Struct

from boxshipd.builder.cache import document, layout
from boxshipd.builder.cache.document import CACHE_TYPE, CacheDocument, Solved
from boxshipd.builder.cache.imported import Claim, claims, inline_claims
from boxshipd.builder.cache.layout import Layout
from boxshipd.builder.cache.options import CachePlace
from boxshipd.builder.executor import Surroundings
from boxshipd.builder.exporters.step import shown
from boxshipd.builder.progress import Sink
from boxshipd.builder.results import Snapshot
from boxshipd.builder.solver.build import Solution
from boxshipd.errors import DaemonError, InternalError, InvalidParameter, NotFound
from boxshipd.images import choice, platform
from boxshipd.images.artifacts import Artifact
from boxshipd.images.content import Session
from boxshipd.images.digest import chain_ids
from boxshipd.images.layer_media import LAYERS, layer_type
from boxshipd.images.model import CONFIG_TYPES, DOCUMENT_LIMIT, OCI_MANIFEST, Descriptor, ImageConfig, decode, encode
from boxshipd.images.record import Layer
from boxshipd.images.reference import Reference
from boxshipd.images.service import Images
from boxshipd.images.unpack.compression import decompressed, detect
from boxshipd.images.workers import Cancellation, StreamSource
from boxshipd.registry import documents
from boxshipd.registry.credentials import decode_all, of_registry
from boxshipd.registry.documents import RemoteIndex, RemoteManifest

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution


class _Manifest(Struct, rename="camel", frozen=True, kw_only=True):
    """A manifest in the order in which it is usually written."""

    schema_version: int = 2
    media_type: str = OCI_MANIFEST
    config: Descriptor
    layers: list[Descriptor]


class CacheTransfer:
    """One build's cache on its ways.

    Args:
        images: the images there are.
        distribution: registries.
        around: the build's client.
        sink: who is told.
    """

    def __init__(self, images: Images, distribution: Distribution, around: Surroundings, sink: Sink) -> None:
        self._images = images
        self._content = images.stores.content
        self._distribution = distribution
        self._around = around
        self._sink = sink

    @asynccontextmanager
    async def taken(self, sources: Sequence[CachePlace]) -> AsyncIterator[list[Mapping[str, Claim]]]:
        """What keys give by the word of some sources, for the solver, as long as the block lasts.

        A source that can't be had is told of, and left out: it would only have made the build faster.
        """
        session = Session(self._content)
        found: list[Mapping[str, Claim]] = []
        try:
            for source in sources:
                try:
                    with shown(f"importing cache manifest from {source.shown}", self._sink):
                        found.append(await self._take(source, session))
                except DaemonError:
                    continue
            yield found
        finally:
            self._images.stores.catalogue.leave(session.release(), ())

    async def give(self, destinations: Sequence[CachePlace], solution: Solution) -> None:
        """Give what a build has solved to all destinations but images, which have it in their configurations.

        Raises:
            DaemonError: one doesn't take it.
        """
        for destination in destinations:
            if destination.kind == "inline":
                continue
            try:
                with shown(f"exporting cache to {destination.shown}", self._sink):
                    await self._give(destination, solution)
            except DaemonError:
                if not destination.optional:
                    raise

    # From elsewhere

    async def _take(self, source: CachePlace, session: Session) -> Mapping[str, Claim]:
        if source.name is None:
            return await self._directory(source, session)
        local = self._images.stores.catalogue.named(source.name)
        if local is not None:
            if local.config.build_cache is UNSET:
                return {}
            inline = document.read_inline(local.config.build_cache, len(local.layers))
            return inline_claims(inline, local.layers, {}, _Here())
        artifact = await self._distribution.artifact(source.name, self._account(source.name))
        if isinstance(artifact.document.content, RemoteIndex):
            artifact = await artifact.manifest(choice.choose(artifact.document.content, platform.host()))
        return await self._artifact(source.name, artifact)

    async def _directory(self, source: CachePlace, session: Session) -> Mapping[str, Claim]:
        cancellation = Cancellation()
        chunks = await self._around.session.context(f"cache-from:{source.number}")
        stream, limits = StreamSource(chunks, cancellation), self._images.stores.limits
        taken = Layout(self._content, session)

        def read() -> CacheDocument:
            _, plain = decompressed(stream, limits)
            taken.fill(plain, limits)
            return taken.document()

        try:
            return claims(await self._images.workers.run(read, cancellation), taken)
        except OSError as error:
            raise InternalError(f"store build cache: {(error.strerror or str(error)).lower()}") from error

    async def _artifact(self, name: Reference, artifact: Artifact) -> Mapping[str, Claim]:
        manifest = artifact.document.content
        if not isinstance(manifest, RemoteManifest):
            raise InvalidParameter(f"{name.familiar} is an index of indexes")
        data = await artifact.read(manifest.config, DOCUMENT_LIMIT)
        if manifest.config.media_type == CACHE_TYPE:
            return claims(document.read(data), artifact)
        if manifest.config.media_type not in CONFIG_TYPES or not all(each.media_type in LAYERS for each in manifest.layers):
            raise InvalidParameter(f"{name.familiar} is neither a build's cache nor an image")
        config = decode(ImageConfig, data, "image configuration")
        if config.build_cache is UNSET:
            return {}
        diffs = config.rootfs.diff_ids
        if len(diffs) != len(manifest.layers):
            raise InvalidParameter(f"{name.familiar} has {len(manifest.layers)} layers, its configuration {len(diffs)}")
        layers = [
            Layer(each.digest, diff, chain, 0)
            for each, diff, chain in zip(manifest.layers, diffs, chain_ids(diffs), strict=True)
        ]
        sizes = {each.digest: each.size for each in manifest.layers}
        return inline_claims(document.read_inline(config.build_cache, len(layers)), layers, sizes, artifact)

    # Elsewhere

    async def _give(self, destination: CachePlace, solution: Solution) -> None:
        solved = await solution.solved(everything=destination.mode == "max")
        wanted = [result for result in solution if isinstance(result, Snapshot)]
        with self._content.session() as session:
            manifest = await self._images.workers.run(lambda: self._manifest(session, solved, wanted, destination))
            if destination.name is not None:
                described = documents.read(manifest, OCI_MANIFEST)
                await self._distribution.put_artifact(destination.name, self._account(destination.name), described)
                return
            pieces = layout.write(self._content, session, manifest, OCI_MANIFEST)
            async with aclosing(self._images.workers.iterate(pieces)) as chunks:
                await self._around.session.receive(f"cache-to:{destination.number}", chunks)

    def _manifest(
        self, session: Session, solved: Sequence[Solved], wanted: Sequence[Snapshot], destination: CachePlace
    ) -> bytes:
        """A cache's manifest; its blobs are pinned by ``session``."""
        composed = document.compose(solved, wanted, destination.mode, self._describe)
        config = session.put(encode(composed))
        layers: dict[str, Descriptor] = {}
        for layer in composed.layers:
            session.claim(layer.blob)
            layers.setdefault(layer.blob, Descriptor(layer.media_type, layer.blob, layer.blob_size))
        return encode(_Manifest(config=Descriptor(CACHE_TYPE, config.digest, config.size), layers=[*layers.values()]))

    def _describe(self, blob: str) -> tuple[str, int]:
        with open(self._content.path(blob), "rb") as file:
            return layer_type(detect(file.read(6)), oci=True), self._content.size(blob)

    def _account(self, name: Reference) -> AuthConfig:
        return of_registry(decode_all(self._around.registry_auth), name.domain)


class _Here:
    """A local image's layers."""

    async def bring(self, session: Session, digest: str, size: int) -> None:
        """See LayerSource.

        Raises:
            NotFound: the image was removed.
        """
        raise NotFound(f"layer {digest} isn't here any more")
