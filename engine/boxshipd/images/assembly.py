"""Making an image of a configuration and its layers' blobs: verification, snapshots, the record.

Whatever brings an image in (a registry, an archive, an import, the embedded base image) ends here, on workers' threads, with
all content pinned. A layer is unpacked as soon as its blob is there, whichever comes first, and all of them side by side.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from boxshipd.errors import InvalidParameter
from boxshipd.images.blob import Blob
from boxshipd.images.catalogue import Catalogue, Layer, Record
from boxshipd.images.content import ContentStore, Session
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
from boxshipd.images.snapshots import SnapshotStore, Unpacking
from boxshipd.images.unpack.compression import detect
from boxshipd.images.unpack.layer import Unpacked, diff_id, unpack_layer
from boxshipd.images.unpack.limits import DEFAULT_LIMITS, Limits
from boxshipd.images.unpack.tree import inherit

Progress = Callable[[str, int, int], None]
"""Called with a layer's diff id, the bytes of it done, and the bytes there are."""

# overlayfs takes no more lower directories than this (OVL_MAX_STACK).
_MAX_LAYERS = 500


# Layers unpacked side by side, of one image.
_PARALLEL = 3


@dataclass(frozen=True, slots=True)
class Prepared:
    """A layer that was unpacked while its blob came in, as one that has others below it."""

    unpacking: Unpacking
    unpacked: Unpacked


@dataclass(frozen=True, slots=True)
class Stores:
    """Where images are kept."""

    content: ContentStore
    snapshots: SnapshotStore
    catalogue: Catalogue
    limits: Limits = DEFAULT_LIMITS


class Assembly:
    """Images being put together. Everything they are made of stays pinned until ``release``.

    Attributes:
        session: pins the content.
        prepared: layers that are unpacked already, by their blobs' digests; a build that has such a layer takes it.
        unsynced: it uses snapshots that may not be on the disk yet.
    """

    def __init__(self, stores: Stores, progress: Progress) -> None:
        self._stores = stores
        self._progress = progress
        self._builds: list[Build] = []
        # What finished builds of this assembly have made, which the catalogue doesn't know yet.
        self._made: dict[str, Layer] = {}
        self.prepared: dict[str, Prepared] = {}
        self.session = Session(stores.content)
        self.unsynced = False

    def take_over(self, layers: Sequence[Layer]) -> None:
        """Use layers that a build has made: they are in the stores already, and the caller has pinned them."""
        for layer in layers:
            self.session.claim(layer.blob)
            self._made[layer.chain] = layer
            self.unsynced |= self._stores.catalogue.layer(layer.chain) is None

    def release(self) -> tuple[list[str], list[str]]:
        """Unpin: call it once the database names the images, or never will; the digests and chain ids that were pinned.

        No thread may be at work on a build any more.
        """
        chains: list[str] = []
        builds, self._builds = self._builds, []
        for build in builds:
            build.discard()
            chains += build.chains
        while self.prepared:
            self.prepared.popitem()[1].unpacking.discard()
        self._stores.snapshots.unpin(chains)
        return self.session.release(), chains

    def start(self, config_data: bytes) -> Build:
        """Begin an image whose layers follow, in whatever order.

        Args:
            config_data: its configuration.

        Raises:
            InvalidParameter: it isn't a configuration, or one that can't be.
        """
        build = Build(self._stores, self, self._made, self._progress, config_data)
        self._builds.append(build)
        return build

    def image(self, config_data: bytes, blobs: Sequence[Blob], manifest_data: bytes | None = None) -> Record:
        """Make an image whose layers are all there.

        Args:
            config_data: its configuration.
            blobs: its layers, lowest first, already in the content store.
            manifest_data: its manifest where it came with one; else one is written.

        Raises:
            InvalidParameter: the parts don't fit together.
        """
        build = self.start(config_data)
        build.expect(len(blobs))
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="layers") as pool:
            # One failure is the image's; what has not begun by then doesn't begin.
            for done in [pool.submit(build.layer, position, blob) for position, blob in enumerate(blobs)]:
                try:
                    done.result()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
        return build.finish(manifest_data)


@dataclass(frozen=True, slots=True)
class _Done:
    """A layer whose content is verified; ``unpacking`` and ``implied`` where it had to be unpacked."""

    blob: Blob
    size: int
    unpacking: Unpacking | None = None
    implied: tuple[bytes, ...] = ()


class Build:
    """One image being put together. Made by ``Assembly.start``.

    ``layer`` may be called from any worker's thread, for all layers at once and in any order; then ``finish``, once.

    Attributes:
        config: the image's configuration.
        chains: the chain id of each layer, lowest first. They are pinned until the assembly is released.
    """

    def __init__(
        self, stores: Stores, assembly: Assembly, made: dict[str, Layer], progress: Progress, config_data: bytes
    ) -> None:
        self._stores = stores
        self._assembly = assembly
        self._session = assembly.session
        self._prepared = assembly.prepared
        self._made = made
        self._progress = progress
        self._config_data = config_data
        self.config = decode(ImageConfig, config_data, "image configuration")
        diffs = self.config.rootfs.diff_ids
        if self.config.rootfs.type != "layers" or len(diffs) > _MAX_LAYERS:
            raise InvalidParameter(
                f"invalid image configuration: root file system of type {self.config.rootfs.type!r} with {len(diffs)} layers"
            )
        for diff in diffs:
            parse_digest(diff)
        self._lock = threading.Lock()
        self._done: dict[int, _Done] = {}
        self.chains = chain_ids(diffs)
        self._present = [stores.snapshots.claim(chain) for chain in self.chains]

    def expect(self, count: int) -> None:
        """Refuse a number of layers that isn't the configuration's.

        Raises:
            InvalidParameter: it isn't.
        """
        if count != len(self.chains):
            raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(self.chains)}, got {count}")

    def layer(self, position: int, blob: Blob) -> None:
        """Verify a layer, and unpack it where its snapshot isn't there yet.

        Args:
            position: its place in the image; 0 is the lowest.
            blob: its content, which the assembly's session has pinned.

        Raises:
            InvalidParameter: there is no such layer.
            HostileOrBroken: it isn't what the configuration says, or can't be unpacked.
            OSError: the disk refused.
        """
        if not 0 <= position < len(self.chains):
            raise InvalidParameter(f"image has no layer {position}")
        done = self._known(position, blob) or self._take(position, blob) or self._unpack(position, blob)
        with self._lock:
            self._done[position] = done

    def finish(self, manifest_data: bytes | None) -> Record:
        """Put the layers' snapshots in their places and everything on the disk.

        Args:
            manifest_data: the image's manifest where it came with one; else one is written.

        Raises:
            InvalidParameter: a layer is missing, or the manifest isn't one.
            OSError: the disk refused.
        """
        stores = self._stores
        self.expect(len(self._done))
        media_type = decode(Manifest, manifest_data, "manifest").media_type if manifest_data else OCI_MANIFEST
        done = [self._done[position] for position in range(len(self.chains))]
        parents: list[str] = []
        for chain, layer in zip(self.chains, done, strict=True):
            if layer.unpacking is not None:
                inherit(layer.unpacking.root, layer.implied, parents)
                stores.snapshots.publish(layer.unpacking, chain)
            parents.insert(0, stores.snapshots.path(chain))
        blobs = [layer.blob for layer in done]
        config = self._session.put(self._config_data)
        manifest = self._session.put(manifest_data or self._manifest(config, blobs))
        stores.content.sync()
        if self._assembly.unsynced or any(layer.unpacking for layer in done):
            stores.snapshots.sync()
            self._assembly.unsynced = False
        layers = tuple(
            Layer(layer.blob.digest, diff, chain, layer.size)
            for layer, diff, chain in zip(done, self.config.rootfs.diff_ids, self.chains, strict=True)
        )
        self._made.update((layer.chain, layer) for layer in layers)
        return Record(sha256(self._config_data), Descriptor(media_type, manifest.digest, manifest.size), self.config, layers)

    def discard(self) -> None:
        """Remove what was unpacked and isn't published."""
        for layer in self._done.values():
            if layer.unpacking is not None:
                layer.unpacking.discard()

    def _known(self, position: int, blob: Blob) -> _Done | None:
        """A layer whose snapshot is there already: only the blob has to be verified, unless that was done before."""
        made = self._made.get(self.chains[position])
        known = made or self._stores.catalogue.layer(self.chains[position])
        if known is None or not (made or self._present[position]):
            return None
        if known.blob != blob.digest and not self._stores.catalogue.verified(blob.digest, known.diff):
            path = self._stores.content.path(blob.digest)
            actual = diff_id(path, digest=blob.digest, limits=self._stores.limits, progress=self._watch(position, blob))
            self._check(position, actual)
        return _Done(blob, known.size)

    def _take(self, position: int, blob: Blob) -> _Done | None:
        """A layer that was unpacked while it came in. One with whiteouts has to be unpacked otherwise as the lowest one."""
        prepared = self._prepared.pop(blob.digest, None)
        if prepared is None:
            return None
        unpacked = prepared.unpacked
        if unpacked.diff_id != self.config.rootfs.diff_ids[position] or (position == 0 and unpacked.hides):
            prepared.unpacking.discard()
            return None
        self._watch(position, blob)(blob.size)
        return _Done(blob, unpacked.size, prepared.unpacking, unpacked.implied)

    def _unpack(self, position: int, blob: Blob) -> _Done:
        stores = self._stores
        unpacking = stores.snapshots.unpacking()
        try:
            unpacked = unpack_layer(
                stores.content.path(blob.digest),
                unpacking.root,
                lowest=position == 0,
                digest=blob.digest,
                limits=stores.limits,
                progress=self._watch(position, blob),
            )
            self._check(position, unpacked.diff_id)
        except BaseException:
            unpacking.discard()
            raise
        return _Done(blob, unpacked.size, unpacking, unpacked.implied)

    def _watch(self, position: int, blob: Blob) -> Callable[[int], None]:
        diff = self.config.rootfs.diff_ids[position]
        return lambda done: self._progress(diff, done, blob.size)

    def _check(self, position: int, actual: str) -> None:
        """Refuse content that isn't what the configuration says."""
        diff = self.config.rootfs.diff_ids[position]
        if actual != diff:
            raise DigestMismatch(f'layer diffID mismatch for layer {position}: expected "{diff}", got "{actual}"')

    def _manifest(self, config: Blob, blobs: Sequence[Blob]) -> bytes:
        """A manifest for an image that came without one: always the same for the same parts."""
        layers = [Descriptor(self._layer_type(blob), blob.digest, blob.size) for blob in blobs]
        return encode(Manifest(Descriptor(OCI_CONFIG, config.digest, config.size), layers))

    def _layer_type(self, blob: Blob) -> str:
        with open(self._stores.content.path(blob.digest), "rb") as file:
            kind = detect(file.read(6))
        return f"{OCI_LAYER}+{kind}" if kind else OCI_LAYER
