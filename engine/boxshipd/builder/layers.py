"""Layers that a build makes, in the images' own store: what an image is made of later is there already.

A layer's archive and its unpacked directory are made of the same bytes, whichever of the two came first. Both are pinned by the
session that made them: whoever keeps the layer for longer pins it as well before the session ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from boxshipd.builder.results import Snapshot
from boxshipd.files.ids import Owners
from boxshipd.files.layer import write_layer
from boxshipd.files.pack import Packer, batched
from boxshipd.images.assembly import Stores
from boxshipd.images.content import Session
from boxshipd.images.digest import chain_ids
from boxshipd.images.layer_compressor import LayerCompressor
from boxshipd.images.record import Layer
from boxshipd.images.snapshots import Unpacking
from boxshipd.images.unpack.apply import LayerApplier
from boxshipd.images.unpack.compression import Chunks
from boxshipd.images.unpack.layer import unpack_layer
from boxshipd.images.unpack.tar import TarReader
from boxshipd.images.unpack.tree import Tree, inherit


class LayerSession:
    """Makes layers, and pins them until ``release``. Its methods block, and may be called from any thread.

    Args:
        stores: where images are kept.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._content = Session(stores.content)
        self._chains: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def release(self) -> tuple[list[str], list[str]]:
        """Unpin; the digests and chain ids that were pinned, which ``Catalogue.leave`` is to be told of."""
        chains, self._chains = self._chains, []
        self._stores.snapshots.unpin(chains)
        return self._content.release(), chains

    def directories(self, snapshot: Snapshot) -> tuple[str, ...]:
        """A file system's layers as overlayfs wants them: topmost first."""
        return tuple(self._stores.snapshots.path(layer.chain) for layer in reversed(snapshot.layers))

    def pin(self, snapshot: Snapshot) -> bool:
        """Keep a file system's layers; whether all of them are there."""
        there = True
        for layer in snapshot.layers:
            there &= self._content.claim(layer.blob)
            self._chains.append(layer.chain)
            there &= self._stores.snapshots.claim(layer.chain)
        return there

    def unpacking(self) -> Unpacking:
        """A directory for a layer in the making: the upper directory of a command's overlay."""
        return self._stores.snapshots.unpacking()

    def from_upper(self, below: Snapshot, unpacking: Unpacking, check: Callable[[], None]) -> Snapshot:
        """The file system with what a command has written, which becomes a layer as it is.

        Args:
            below: what the command ran in.
            unpacking: its overlay's upper directory; it is published, or discarded if that fails.
            check: called for each file; it may raise to end the work.
        """
        try:
            packer = Packer(Owners(), check)
            members = write_layer(unpacking.root, self.directories(below), Owners(), check, packer)
            with self._stores.content.writer() as writer, LayerCompressor(writer) as archive:
                for piece in batched(members):
                    archive.write(piece)
                diff = archive.finish()
                blob = self._content.commit(writer)
            return self._publish(below, unpacking, blob.digest, diff, packer.size)
        except BaseException:
            unpacking.discard()
            raise

    def from_archive(self, below: Snapshot, chunks: Iterator[bytes], check: Callable[[], None] = lambda: None) -> Snapshot:
        """The file system with a layer on it that is an archive, whiteouts and all.

        It is unpacked while it is compressed.

        Args:
            below: what it lies on.
            chunks: the archive, uncompressed.
            check: called for each chunk; it may raise to end the work.
        """

        def passing() -> Iterator[bytes]:
            for chunk in chunks:
                check()
                archive.write(chunk)
                yield chunk

        unpacking = self._stores.snapshots.unpacking()
        try:
            with self._stores.content.writer() as writer, LayerCompressor(writer) as archive:
                with Tree(unpacking.root, layered=bool(below.layers)) as tree:
                    reader = TarReader(Chunks(passing()), self._stores.limits)
                    size = LayerApplier(tree, self._stores.limits).apply(reader)
                diff = archive.finish()
                blob = self._content.commit(writer)
            inherit(unpacking.root, tree.implied, list(self.directories(below)))
            return self._publish(below, unpacking, blob.digest, diff, size)
        except BaseException:
            unpacking.discard()
            raise

    def restack(self, below: Snapshot, layer: Layer) -> Snapshot:
        """The file system with a layer on it that lay on another one: the blob is the same, its directory may not be.

        Raises:
            HostileOrBroken: the layer can't be unpacked.
        """
        chain = chain_ids([*(each.diff for each in below.layers), layer.diff])[-1]
        stacked = Snapshot((*below.layers, dataclasses.replace(layer, chain=chain)))
        self._content.claim(layer.blob)
        self._chains.append(chain)
        if self._stores.snapshots.claim(chain):
            return stacked
        unpacking = self._stores.snapshots.unpacking()
        try:
            path = self._stores.content.path(layer.blob)
            unpacked = unpack_layer(
                path, unpacking.root, lowest=not below.layers, digest=layer.blob, limits=self._stores.limits
            )
            inherit(unpacking.root, unpacked.implied, list(self.directories(below)))
            self._stores.snapshots.publish(unpacking, chain)
        except BaseException:
            unpacking.discard()
            raise
        return stacked

    def _publish(self, below: Snapshot, unpacking: Unpacking, blob: str, diff: str, size: int) -> Snapshot:
        chain = chain_ids([*(layer.diff for layer in below.layers), diff])[-1]
        self._chains.append(chain)
        self._stores.snapshots.claim(chain)
        self._stores.snapshots.publish(unpacking, chain)
        return Snapshot((*below.layers, Layer(blob, diff, chain, size)))
