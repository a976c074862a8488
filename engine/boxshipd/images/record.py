"""What is on record of an image, and of an index that a name means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from boxshipd.images.digest import sha256
from boxshipd.images.model import Descriptor, ImageConfig, Index, Manifest, Platform, decode


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    Attributes:
        blob: the digest of the layer as it came.
        diff: the digest of it uncompressed.
        chain: the digest of it and all below: its snapshot's name.
        size: the sum of its files' lengths, in bytes.
    """

    blob: str
    diff: str
    chain: str
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One image.

    Attributes:
        id: the digest of its configuration.
        manifest: where its manifest is.
        config: its configuration.
        layers: its layers, lowest first.
        tagged: when it last got a name, in seconds since the epoch, or 0.
        parent: the id of the image that a commit was made of, empty for an image that came from elsewhere.
        removed: it is gone for clients, and kept for the containers that still use it.
    """

    id: str
    manifest: Descriptor
    config: ImageConfig
    layers: tuple[Layer, ...]
    tagged: float = 0.0
    parent: str = ""
    removed: bool = False

    @property
    def platform(self) -> Platform:
        """What it runs on."""
        return Platform(self.config.architecture, self.config.os, self.config.variant or "", self.config.os_version or "")

    @property
    def size(self) -> int:
        """The sum of all its files' lengths, in bytes."""
        return sum(layer.size for layer in self.layers)

    @property
    def blobs(self) -> set[str]:
        """The digests of everything it is made of."""
        return {self.id, self.manifest.digest, *(layer.blob for layer in self.layers)}


@dataclass(slots=True)
class IndexRecord:
    """An index that a name means.

    Attributes:
        descriptor: where its blob is.
        manifests: what it lists.
        images: the ids of the images here that came with it.
        attached: by the digest of each attestation's manifest that is here, the digests of all that it is made of.
    """

    descriptor: Descriptor
    manifests: Sequence[Descriptor]
    images: set[str] = field(default_factory=set)
    attached: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def blobs(self) -> set[str]:
        """The digests of the index itself and of all that its attestations here are made of."""
        return {self.descriptor.digest}.union(*self.attached.values())


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means: the image that got it last, and the digest of the index it came with, or nothing."""

    image: str
    index: str = ""


def describe_manifest(data: bytes) -> Descriptor:
    """The descriptor of a manifest."""
    return Descriptor(decode(Manifest, data, "manifest").media_type, sha256(data), len(data))


def describe_index(data: bytes) -> IndexRecord:
    """What an index says.

    Raises:
        InvalidParameter: it isn't one.
    """
    index = decode(Index, data, "index")
    return IndexRecord(Descriptor(index.media_type, sha256(data), len(data)), tuple(index.manifests))
