"""Making an image of a configuration and its layers' blobs: verification, snapshots, the record.

Whatever brings an image in (an archive, an import, the embedded base image) ends here, on a worker's thread, with all
content pinned.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from boxshipd.errors import InvalidParameter
from boxshipd.images.catalogue import Catalogue, Layer, Record
from boxshipd.images.content import Blob, ContentStore, Session
from boxshipd.images.digest import chain_ids, parse_digest, sha256
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.model import (
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    decode,
    encode,
)
from boxshipd.images.snapshots import SnapshotStore
from boxshipd.images.unpack.compression import detect
from boxshipd.images.unpack.layer import diff_id, unpack_layer
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits

Progress = Callable[[str, int, int], None]
"""Called with a layer's diff id, the bytes of it done, and the bytes there are."""

# overlayfs takes no more lower directories than this (OVL_MAX_STACK).
_MAX_LAYERS = 500


@dataclass(frozen=True, slots=True)
class Stores:
    """Where images are kept."""

    content: ContentStore
    snapshots: SnapshotStore
    catalogue: Catalogue
    limits: Limits = DEFAULT_LIMITS


class Assembly:
    """Images being put together. Everything they are made of stays pinned until ``release``."""

    def __init__(self, stores: Stores, progress: Progress) -> None:
        self._stores = stores
        self._progress = progress
        self._chains: list[str] = []
        self.session = Session(stores.content)

    def release(self) -> tuple[list[str], list[str]]:
        """Unpin: call it once the database names the images, or never will; the digests and chain ids that were pinned."""
        chains, self._chains = self._chains, []
        self._stores.snapshots.unpin(chains)
        return self.session.release(), chains

    def image(self, config_data: bytes, blobs: Sequence[Blob], manifest_data: bytes | None = None) -> Record:
        """Verify an image's parts, unpack what isn't unpacked yet, and put all of it on the disk.

        Args:
            config_data: its configuration.
            blobs: its layers, lowest first, already in the content store.
            manifest_data: its manifest where it came with one; else one is written.

        Raises:
            InvalidParameter: the parts don't fit together.
        """
        config = decode(ImageConfig, config_data, "image configuration")
        diffs = config.rootfs.diff_ids
        if config.rootfs.type != "layers" or len(diffs) > _MAX_LAYERS:
            raise InvalidParameter(
                f"invalid image configuration: root file system of type {config.rootfs.type!r} with {len(diffs)} layers"
            )
        for diff in diffs:
            parse_digest(diff)
        if len(diffs) != len(blobs):
            raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(diffs)}, got {len(blobs)}")
        layers: list[Layer] = []
        for position, (blob, diff, chain) in enumerate(zip(blobs, diffs, chain_ids(diffs), strict=True)):
            layers.append(self._layer(position, blob, diff, chain, layers))
        config_blob = self.session.put(config_data)
        manifest = self.session.put(manifest_data or self._manifest(config_blob, blobs))
        self._stores.content.sync()
        self._stores.snapshots.sync()
        media_type = decode(Manifest, manifest_data, "manifest").media_type if manifest_data else OCI_MANIFEST
        return Record(sha256(config_data), Descriptor(media_type, manifest.digest, manifest.size), config, tuple(layers))

    def _layer(self, position: int, blob: Blob, diff: str, chain: str, below: Sequence[Layer]) -> Layer:
        """Make sure of one layer's content, and of its snapshot."""
        stores = self._stores
        self._chains.append(chain)
        present = stores.snapshots.claim(chain)
        known = stores.catalogue.layer(chain)
        path = stores.content.path(blob.digest)

        def progress(done: int) -> None:
            self._progress(diff, done, blob.size)

        with _mismatch(position, diff) as check:
            if present and known is not None:
                if not stores.catalogue.verified(blob.digest, diff):
                    check(diff_id(path, limits=stores.limits, progress=progress))
                return Layer(blob.digest, diff, chain, known.size)
            parents = [stores.snapshots.path(layer.chain) for layer in reversed(below)]
            with stores.snapshots.unpacking(chain) as root:
                unpacked = unpack_layer(path, root, parents, limits=stores.limits, progress=progress)
                check(unpacked.diff_id)
        return Layer(blob.digest, diff, chain, unpacked.size)

    def _manifest(self, config: Blob, blobs: Sequence[Blob]) -> bytes:
        """A manifest for an image that came without one: always the same for the same parts."""
        layers = [Descriptor(self._layer_type(blob), blob.digest, blob.size) for blob in blobs]
        return encode(Manifest(Descriptor(OCI_CONFIG, config.digest, config.size), layers))

    def _layer_type(self, blob: Blob) -> str:
        with open(self._stores.content.path(blob.digest), "rb") as file:
            kind = detect(file.read(6))
        return f"{OCI_LAYER}+{kind}" if kind else OCI_LAYER


@contextlib.contextmanager
def _mismatch(position: int, diff: str) -> Iterator[Callable[[str], None]]:
    """A check that a layer's content is what the configuration says."""

    def check(actual: str) -> None:
        if actual != diff:
            raise DigestMismatch(f'layer diffID mismatch for layer {position}: expected "{diff}", got "{actual}"')

    yield check
