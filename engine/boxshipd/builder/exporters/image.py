"""Images of what was built, in the daemon's own store: one for each platform, and an index where there are several.

Source: BuildKit exporter/containerimage/writer.go; OCI image specification, manifest.md, image-index.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from boxshipd.builder.exporters.configuration import BuiltImage, configuration
from boxshipd.builder.exporters.layers import LayerMaker, made_at
from boxshipd.builder.exporters.options import OutputOptions
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.provenance import Provenance
from boxshipd.images.assembly import Assembly, Stores
from boxshipd.images.attestations import attach
from boxshipd.images.blob import Blob
from boxshipd.images.layer_media import layer_type
from boxshipd.images.model import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    encode,
)
from boxshipd.images.record import Layer, Record


class _Manifest(Struct, rename="camel", frozen=True, kw_only=True):
    """A manifest in the order in which it is usually written, with annotations."""

    schema_version: int = 2
    media_type: str
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | UnsetType = UNSET


class _Index(Struct, rename="camel", frozen=True, kw_only=True):
    schema_version: int = 2
    media_type: str
    manifests: list[Descriptor]
    annotations: dict[str, str] | UnsetType = UNSET


@dataclass(frozen=True, slots=True)
class Made:
    """Images that are made, of which the catalogue doesn't know yet.

    Attributes:
        records: one for each platform, in the order asked for.
        descriptor: what names all of it: the index's, or the only image's manifest's.
        index: the index that lists them; None where there is one image only.
    """

    records: tuple[Record, ...]
    descriptor: Descriptor
    index: bytes | None = None


class ImageMaker:
    """Makes images. Its methods block, and are called on a worker's thread.

    Args:
        stores: where images are kept.
        assembly: pins what they are made of.
        layers: makes their layers anew, where that is wanted.
        check: called now and then; it may raise to end the work.
        provenance: makes statements about the images, if there are to be any.
    """

    def __init__(
        self,
        stores: Stores,
        assembly: Assembly,
        layers: LayerSession,
        check: Callable[[], None],
        provenance: Provenance | None = None,
    ) -> None:
        self._provenance = provenance
        self._stores = stores
        self._assembly = assembly
        self._layers = LayerMaker(stores, layers, assembly.session, check)

    def make(self, images: Sequence[BuiltImage], options: OutputOptions) -> Made:
        """Make them, and the index if there are several."""
        if self._provenance is not None:
            # As with BuildKit: what is attached has OCI's types, and so has all around it.
            options = replace(options, oci=True)
        annotations = options.annotations
        annotations.check(built.planned.platform for built in images)
        if annotations.want_oci:
            options = replace(options, oci=True)
        records = tuple(self._image(built, options) for built in images)
        described = [
            _described(record, annotations.descriptor(built.planned.platform))
            for record, built in zip(records, images, strict=True)
        ]
        if len(records) == 1 and not annotations.want_index and self._provenance is None:
            return Made(records, described[0])
        index = _Index(
            media_type=OCI_INDEX if options.oci else DOCKER_INDEX,
            manifests=[*described, *self._attestations(records, options)],
            annotations=annotations.index or UNSET,
        )
        data = encode(index)
        put = self._assembly.session.put(data)
        return Made(records, Descriptor(index.media_type, put.digest, put.size, annotations.index_descriptor or None), data)

    def _attestations(self, records: Sequence[Record], options: OutputOptions) -> Iterator[Descriptor]:
        """What is attached to the images, for the index."""
        if self._provenance is None:
            return
        for record in records:
            statement = self._provenance.statement(record, options.names)
            predicate = self._provenance.options.predicate_type
            yield attach(self._assembly.session, record.manifest.digest, statement, predicate)

    def _image(self, built: BuiltImage, options: OutputOptions) -> Record:
        layers = self._layers.make(built, options)
        config = encode(configuration(built, layers, lambda layer: made_at(self._stores, layer)))
        self._assembly.take_over(layers)
        blobs = [Blob(layer.blob, self._stores.content.size(layer.blob)) for layer in layers]
        return self._assembly.image(config, blobs, self._manifest(config, layers, blobs, built, options))

    def _manifest(
        self, config: bytes, layers: Sequence[Layer], blobs: Sequence[Blob], built: BuiltImage, options: OutputOptions
    ) -> bytes:
        described = self._assembly.session.put(config)
        return encode(
            _Manifest(
                media_type=OCI_MANIFEST if options.oci else DOCKER_MANIFEST,
                config=Descriptor(OCI_CONFIG if options.oci else DOCKER_CONFIG, described.digest, described.size),
                layers=[
                    Descriptor(layer_type(self._layers.compression(layer), oci=options.oci), blob.digest, blob.size)
                    for layer, blob in zip(layers, blobs, strict=True)
                ],
                annotations=options.annotations.manifest(built.planned.platform) or UNSET,
            )
        )


def _described(record: Record, annotations: dict[str, str]) -> Descriptor:
    manifest = record.manifest
    return Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations or None, record.platform)
