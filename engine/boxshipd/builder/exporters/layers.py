"""An image's layers as they are to be: compressed otherwise, none of its files younger than a point in time, or put into one.

All of it blocks, and is done on workers' threads.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

import zstandard
from isal import isal_zlib

from boxshipd.builder.exporters.configuration import BuiltImage
from boxshipd.builder.exporters.options import Compression, OutputOptions
from boxshipd.builder.layers import LayerSession
from boxshipd.builder.ops.diff import differences
from boxshipd.builder.results import Snapshot
from boxshipd.builder.trees.snapshot import SnapshotTree
from boxshipd.files.ids import Owners
from boxshipd.files.layer import write_layer
from boxshipd.files.pack import Packer, batched
from boxshipd.images.assembly import Stores
from boxshipd.images.content import Session
from boxshipd.images.record import Layer
from boxshipd.images.unpack.compression import CHUNK, decompressed, detect

_GZIP_WINDOW = 31
_FASTEST_GZIP = 1


class LayerMaker:
    """Makes layers what an output wants them to be.

    Args:
        stores: where images are kept.
        layers: makes new ones.
        content: pins blobs.
        check: called now and then; it may raise to end the work.
    """

    def __init__(self, stores: Stores, layers: LayerSession, content: Session, check: Callable[[], None]) -> None:
        self._stores = stores
        self._layers = layers
        self._content = content
        self._check = check

    def make(self, built: BuiltImage, options: OutputOptions) -> tuple[Layer, ...]:
        """The layers of an image, lowest first."""
        snapshot = built.snapshot
        if options.squash and len(snapshot.layers) > built.base_layers:
            snapshot = self._squashed(snapshot, built.base_layers)
        if options.rewrite_times and built.planned.epoch is not None:
            snapshot = self._aged(snapshot, built.base_layers, built.planned.epoch)
        if options.compression is None:
            return snapshot.layers
        first = 0 if options.force else built.base_layers
        made = (self._compressed(layer, options.compression, options.level) for layer in snapshot.layers[first:])
        return (*snapshot.layers[:first], *made)

    def compression(self, layer: Layer) -> str:
        """How a layer's blob is compressed: ``gzip``, ``zstd``, another name, or empty for not at all."""
        with open(self._stores.content.path(layer.blob), "rb") as file:
            return detect(file.read(6))

    def _squashed(self, snapshot: Snapshot, base_layers: int) -> Snapshot:
        """The same files, all that the build has changed as one layer."""
        base = Snapshot(snapshot.layers[:base_layers])
        with (
            closing(SnapshotTree(self._layers.directories(base))) as below,
            closing(SnapshotTree(self._layers.directories(snapshot))) as above,
        ):
            return self._layers.from_archive(base, batched(differences(below, above, self._check)), self._check)

    def _aged(self, snapshot: Snapshot, base_layers: int, epoch: int) -> Snapshot:
        """The same files, none of those that the build has made younger than ``epoch``."""
        made = Snapshot(snapshot.layers[:base_layers])
        for position in range(base_layers, len(snapshot.layers)):
            own = self._stores.snapshots.path(snapshot.layers[position].chain)
            below = self._layers.directories(Snapshot(snapshot.layers[:position]))
            packer = Packer(Owners(), self._check, epoch)
            members = write_layer(own, below, Owners(), self._check, packer)
            made = self._layers.from_archive(made, batched(members), self._check)
        return made

    def _compressed(self, layer: Layer, wanted: Compression, level: int | None) -> Layer:
        """A layer compressed as it is wanted; as it is where it is already, unless a level is wanted."""
        if level is None and self.compression(layer) == ("" if wanted == "uncompressed" else wanted):
            return layer
        compressor = _compressor(wanted, level)
        checksum = hashlib.sha256()
        with self._stores.content.writer() as writer:
            for piece in self._plain(layer):
                checksum.update(piece)
                writer.write(compressor.compress(piece))
            writer.write(compressor.flush())
            blob = self._content.commit(writer)
        if f"sha256:{checksum.hexdigest()}" != layer.diff:
            raise AssertionError(f"layer {layer.diff} isn't what it is called")
        return replace(layer, blob=blob.digest)

    def _plain(self, layer: Layer) -> Iterator[bytes]:
        with open(self._stores.content.path(layer.blob), "rb", buffering=0) as file:
            _, plain = decompressed(file, self._stores.limits)
            while piece := plain.read(CHUNK):
                self._check()
                yield piece


def made_at(stores: Stores, layer: Layer) -> float:
    """When a layer was made, in seconds since the epoch: since when its blob is there."""
    return os.stat(stores.content.path(layer.blob)).st_mtime


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Uncompressed:
    """Nothing is done."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(wanted: Compression, level: int | None) -> _Compressor:
    if wanted == "uncompressed":
        return _Uncompressed()
    if wanted == "zstd":
        return zstandard.ZstdCompressor(level=3 if level is None else level).compressobj()
    if level is None:
        return isal_zlib.compressobj(level=_FASTEST_GZIP, wbits=_GZIP_WINDOW)
    # isal has levels of its own, which don't mean the same.
    return zlib.compressobj(level=level, wbits=_GZIP_WINDOW)
