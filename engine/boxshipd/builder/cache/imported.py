"""What others say that keys give. It counts for the builds that name it and for no others, as it is a claim and no proof.

A layer is fetched when somebody needs what is in it, or the image that it is a part of is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from boxshipd.builder.cache.document import CacheDocument, InlineCache
from boxshipd.builder.results import Snapshot
from boxshipd.images.assembly import Stores
from boxshipd.images.content import Session
from boxshipd.images.digest import chain_ids
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.record import Layer
from boxshipd.images.unpack.layer import diff_id, unpack_layer
from boxshipd.images.unpack.tree import inherit
from boxshipd.images.workers import Cancellation, Workers

_SIDE_BY_SIDE = 3


class LayerSource(Protocol):
    """Where layers' blobs are to be had."""

    async def bring(self, session: Session, digest: str, size: int) -> None:
        """Have a blob in the content store, pinned by ``session``.

        Args:
            session: pins it.
            digest: the blob's.
            size: its length in bytes, -1 where that isn't known.
        """


@dataclass(frozen=True, slots=True)
class Claim:
    """What a key gives, by somebody else's word.

    Attributes:
        snapshots: its outputs.
        sizes: the lengths of their layers' blobs, by digest.
        source: where the blobs are to be had.
    """

    snapshots: tuple[Snapshot, ...]
    sizes: dict[str, int]
    source: LayerSource


def claims(document: CacheDocument, source: LayerSource) -> dict[str, Claim]:
    """What a document says, by key."""
    stacks: list[tuple[Layer, ...]] = []
    for layer in document.layers:
        below = stacks[layer.below] if layer.below >= 0 else ()
        # A chain id is the digest of the one below and the layer's own.
        chain = chain_ids([below[-1].chain, layer.diff])[-1] if below else layer.diff
        stacks.append((*below, Layer(layer.blob, layer.diff, chain, layer.size)))
    sizes = {layer.blob: layer.blob_size for layer in document.layers}
    return {
        each.key: Claim(tuple(Snapshot(stacks[top] if top >= 0 else ()) for top in each.outputs), sizes, source)
        for each in document.keys
    }


def inline_claims(cache: InlineCache, layers: Sequence[Layer], sizes: dict[str, int], source: LayerSource) -> dict[str, Claim]:
    """What an image says of its own layers, by key."""
    return {each.key: Claim((Snapshot(tuple(layers[: each.layers])),), sizes, source) for each in cache.keys}


class Fetcher:
    """Fetches layers.

    Args:
        stores: where to.
        verified: whether a blob is known to be, uncompressed, what a digest says.
        workers: threads.
    """

    def __init__(self, stores: Stores, verified: Callable[[str, str], bool], workers: Workers) -> None:
        self._stores = stores
        self._verified = verified
        self._workers = workers

    @asynccontextmanager
    async def fetched(self, claim: Claim) -> AsyncIterator[tuple[Snapshot, ...]]:
        """A claim's file systems, all of whose layers are there inside the block, and are what it says that they are.

        Raises:
            HostileOrBroken: a layer isn't what it should be, or can't be unpacked.
            DaemonError: it can't be had.
        """
        session = Session(self._stores.content)
        chains: list[str] = []
        try:
            layers = {layer.chain: layer for snapshot in claim.snapshots for layer in snapshot.layers}
            await self._bring(session, claim, sorted({layer.blob for layer in layers.values()}))
            made: dict[str, Layer] = {}
            for snapshot in claim.snapshots:
                for position, layer in enumerate(snapshot.layers):
                    if layer.chain not in made:
                        chains.append(layer.chain)
                        made[layer.chain] = await self._place(snapshot.layers[:position], layer)
            yield tuple(Snapshot(tuple(made[layer.chain] for layer in snapshot.layers)) for snapshot in claim.snapshots)
        finally:
            self._stores.snapshots.unpin(chains)
            self._stores.catalogue.leave(session.release(), chains)

    async def _bring(self, session: Session, claim: Claim, blobs: Sequence[str]) -> None:
        places = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(blob: str) -> None:
            async with places:
                if not session.claim(blob):
                    await claim.source.bring(session, blob, claim.sizes.get(blob, -1))

        try:
            async with asyncio.TaskGroup() as group:
                for blob in blobs:
                    group.create_task(one(blob))
        except ExceptionGroup as failures:
            failure = failures.exceptions[0]
        else:
            return
        raise failure

    async def _place(self, below: Sequence[Layer], layer: Layer) -> Layer:
        """See to it that a layer's snapshot is there, and that its blob is what the snapshot is made of."""
        cancellation = Cancellation()
        stores = self._stores
        if stores.snapshots.claim(layer.chain):
            if not self._verified(layer.blob, layer.diff):
                path = stores.content.path(layer.blob)
                actual = await self._workers.run(
                    lambda: diff_id(path, digest=layer.blob, limits=stores.limits, progress=lambda _: cancellation.check()),
                    cancellation,
                )
                _check(layer, actual)
            return layer
        return await self._workers.run(lambda: self._unpack(below, layer, cancellation), cancellation)

    def _unpack(self, below: Sequence[Layer], layer: Layer, cancellation: Cancellation) -> Layer:
        stores = self._stores
        unpacking = stores.snapshots.unpacking()
        try:
            unpacked = unpack_layer(
                stores.content.path(layer.blob),
                unpacking.root,
                lowest=not below,
                digest=layer.blob,
                limits=stores.limits,
                progress=lambda _: cancellation.check(),
            )
            _check(layer, unpacked.diff_id)
            inherit(unpacking.root, unpacked.implied, [stores.snapshots.path(each.chain) for each in reversed(below)])
            stores.snapshots.publish(unpacking, layer.chain)
        except BaseException:
            unpacking.discard()
            raise
        return Layer(layer.blob, layer.diff, layer.chain, unpacked.size)


def _check(layer: Layer, actual: str) -> None:
    if actual != layer.diff:
        raise DigestMismatch(f'build cache: layer {layer.blob} has diffID "{actual}", not "{layer.diff}" as was said')
