"""The cache of a build as others may have it: which keys give which layers.

In a registry, or in a directory of the client's, it is the configuration of an OCI manifest whose layers are those it speaks
of. In an image it is a part of the image's own configuration, and speaks of the image's layers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from boxshipd.builder.results import Snapshot
from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import parse_digest
from boxshipd.images.model import decode
from boxshipd.images.record import Layer

CACHE_TYPE = "application/vnd.boxship.build.cache.v1+json"
MOST_LAYERS = 500
"""Registries' manifests aren't read with more, here or elsewhere."""

Mode = Literal["min", "max"]


class CachedLayer(Struct, frozen=True, rename="camel"):
    """One layer: its blob with media type and length, its digest uncompressed, the length of its files, and the place of the
    layer below it, -1 for none.
    """

    media_type: str
    blob: str
    blob_size: int
    diff: str
    size: int
    below: int


class CachedKey(Struct, frozen=True, rename="camel"):
    """What a key gives: for each output the place of its topmost layer, -1 for an empty file system."""

    key: str
    outputs: tuple[int, ...]


class CacheDocument(Struct, frozen=True, rename="camel"):
    """All of it; a layer comes after the one that it lies on."""

    layers: tuple[CachedLayer, ...]
    keys: tuple[CachedKey, ...]


class InlineKey(Struct, frozen=True):
    """What a key gives: so many of the image's layers, from the lowest on."""

    key: str
    layers: int


class InlineCache(Struct, frozen=True):
    """The part of an image's configuration."""

    keys: tuple[InlineKey, ...]


class Solved(Struct, frozen=True):
    """A vertex whose outcome may be known elsewhere: its key, and what came of it."""

    key: str
    snapshots: tuple[Snapshot, ...]


def read(data: bytes) -> CacheDocument:
    """Read what somebody else has written.

    Raises:
        InvalidParameter: it can't be.
    """
    document = decode(CacheDocument, data, "build cache")
    if len(document.layers) > MOST_LAYERS:
        raise InvalidParameter(f"invalid build cache: it has more than {MOST_LAYERS} layers")
    for place, layer in enumerate(document.layers):
        if not -1 <= layer.below < place or layer.blob_size < 0 or layer.size < 0:
            raise InvalidParameter(f"invalid build cache: its layer {place} can't be")
        parse_digest(layer.blob)
        parse_digest(layer.diff)
    for each in document.keys:
        if not each.key or not all(-1 <= output < len(document.layers) for output in each.outputs):
            raise InvalidParameter("invalid build cache: one of its keys gives what it hasn't")
    return document


def compose(solved: Sequence[Solved], wanted: Sequence[Snapshot], mode: Mode, describe: Any) -> CacheDocument:
    """Write a build's.

    Args:
        solved: what the build has solved.
        wanted: its results, which come first.
        mode: ``min`` for what leads to the results' layers only, ``max`` for all stages'.
        describe: tells a blob's media type and length.
    """
    places: dict[tuple[int, str], int] = {}
    layers: list[CachedLayer] = []

    def place(stack: Sequence[Layer]) -> int:
        below = -1
        for layer in stack:
            known = places.get((below, layer.blob))
            if known is None:
                media_type, size = describe(layer.blob)
                layers.append(CachedLayer(media_type, layer.blob, size, layer.diff, layer.size, below))
                known = places[below, layer.blob] = len(layers) - 1
            below = known
        return below

    final = {layer.chain for snapshot in wanted for layer in snapshot.layers}
    chosen: list[CachedKey] = []
    for of_result in (True, False):
        for each in solved:
            leads = all(snapshot.chain in final or not snapshot.layers for snapshot in each.snapshots)
            if leads is not of_result or (mode == "min" and not leads):
                continue
            if len(layers) + sum(len(snapshot.layers) for snapshot in each.snapshots) > MOST_LAYERS:
                continue
            chosen.append(CachedKey(each.key, tuple(place(snapshot.layers) for snapshot in each.snapshots)))
    return CacheDocument(tuple(layers), tuple(chosen))


def inline(solved: Sequence[Solved], chains: Sequence[str]) -> InlineCache | None:
    """What an image can say of its own layers; None for nothing.

    Args:
        solved: what the build has solved.
        chains: the chain ids of the image's layers, lowest first.
    """
    heights = {chain: height for height, chain in enumerate(chains, start=1)}
    keys = tuple(
        InlineKey(each.key, heights[each.snapshots[0].chain])
        for each in solved
        if len(each.snapshots) == 1 and each.snapshots[0].chain in heights
    )
    return InlineCache(keys) if keys else None


def read_inline(field: object, layers: int) -> InlineCache:
    """Read what an image's configuration says.

    Args:
        field: that part of it.
        layers: how many layers the image has.

    Raises:
        InvalidParameter: it can't be.
    """
    try:
        cache = msgspec.convert(field, InlineCache)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid build cache in an image's configuration: {error}") from error
    if not all(0 < each.layers <= layers for each in cache.keys):
        raise InvalidParameter("invalid build cache in an image's configuration: it speaks of layers that the image hasn't")
    return cache
