"""Images as the API shows them.

Source: Docker Engine API v1.51, definitions ImageInspect, ImageManifestSummary, ImageSummary, ImageHistoryResponseItem,
ImageDeleteResponseItem, OCIDescriptor, BuildInfo and CreateImageInfo.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from boxship.types.containers import ContainerConfig, DriverData


class OCIPlatform(Struct, frozen=True):
    """A platform as OCI descriptors name it."""

    architecture: str
    os: str
    os_version: str | UnsetType = field(name="os.version", default=UNSET)
    os_features: list[str] | UnsetType = field(name="os.features", default=UNSET)
    variant: str | UnsetType = UNSET


class OCIDescriptor(Struct, rename="camel", frozen=True):
    """A reference to a blob: media type, digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: list[str] | UnsetType | None = UNSET
    annotations: dict[str, str] | UnsetType | None = UNSET
    data: str | UnsetType | None = UNSET
    platform: OCIPlatform | UnsetType | None = UNSET
    artifact_type: str | UnsetType | None = UNSET


class RootFS(Struct, rename="pascal", frozen=True):
    """An image's layers by the digest of their uncompressed content."""

    type: str
    layers: list[str]


class ImageMetadata(Struct, rename="pascal", frozen=True):
    """What the engine knows of an image beyond its content."""

    last_tag_time: str


class ManifestSize(Struct, rename="pascal", frozen=True):
    """A manifest's size in bytes: its blobs, and those with what was unpacked of them."""

    total: int
    content: int


class UnpackedSize(Struct, rename="pascal", frozen=True):
    """The size in bytes of what was unpacked."""

    unpacked: int


class ManifestImageData(Struct, rename="pascal", frozen=True):
    """What a manifest of kind ``image`` has: its platform, and the ids of the containers made of it."""

    platform: OCIPlatform
    containers: list[str]
    size: UnpackedSize


class AttestationData(Struct, rename="pascal", frozen=True):
    """What a manifest of kind ``attestation`` has: the digest of the manifest it is about."""

    for_: str = field(name="For")


class ManifestSummary(Struct, rename="pascal", frozen=True):
    """One manifest of an image for several platforms; ``kind`` is image, attestation or unknown."""

    id: str = field(name="ID")
    descriptor: OCIDescriptor
    available: bool
    size: ManifestSize
    kind: str
    image_data: ManifestImageData | UnsetType = UNSET
    attestation_data: AttestationData | UnsetType = UNSET


class ImageInspect(Struct, rename="pascal", frozen=True):
    """The answer to ``ImageInspect``; sizes in bytes."""

    id: str
    repo_tags: list[str]
    repo_digests: list[str]
    parent: str
    comment: str
    created: str | UnsetType
    docker_version: str
    author: str
    config: ContainerConfig | None
    architecture: str
    os: str
    size: int
    graph_driver: DriverData
    root_fs: RootFS = field(name="RootFS")
    metadata: ImageMetadata
    variant: str | UnsetType = UNSET
    os_version: str | UnsetType = UNSET
    descriptor: OCIDescriptor | UnsetType = UNSET
    manifests: list[ManifestSummary] | UnsetType = UNSET


class ImageSummary(Struct, rename="pascal", frozen=True):
    """One row of ``ImageList``; sizes in bytes, -1 where not asked for."""

    id: str
    parent_id: str
    repo_tags: list[str] | None
    repo_digests: list[str] | None
    created: int
    size: int
    shared_size: int
    labels: dict[str, str] | None
    containers: int
    descriptor: OCIDescriptor | UnsetType = UNSET
    manifests: list[ManifestSummary] | UnsetType = UNSET


class ImageHistoryItem(Struct, rename="pascal", frozen=True):
    """One step of ``ImageHistory``; ``created`` in seconds since the epoch, ``size`` in bytes."""

    id: str
    created: int
    created_by: str
    tags: list[str] | None
    size: int
    comment: str


class ImageDeleteItem(Struct, rename="pascal", frozen=True):
    """One act of ``ImageDelete`` or ``ImagePrune``."""

    untagged: str | UnsetType = UNSET
    deleted: str | UnsetType = UNSET


class ImagePruneResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``ImagePrune``; space in bytes."""

    images_deleted: list[ImageDeleteItem] | None
    space_reclaimed: int


class ErrorDetail(Struct, frozen=True):
    """An error inside a JSON stream.

    ``excerpt``, which Docker doesn't have, are the lines of a Dockerfile that an error is about, with those around them.
    """

    message: str
    code: int | UnsetType = UNSET
    excerpt: str | UnsetType = UNSET


class ProgressDetail(Struct, frozen=True):
    """How far a step has come, in bytes."""

    current: int | UnsetType = UNSET
    total: int | UnsetType = UNSET


class ProgressMessage(Struct, rename="camel", frozen=True):
    """One line of the JSON stream that load, import, pull, push and build answer with."""

    stream: str | UnsetType = UNSET
    status: str | UnsetType = UNSET
    id: str | UnsetType = UNSET
    progress: str | UnsetType = UNSET
    progress_detail: ProgressDetail | UnsetType = UNSET
    error: str | UnsetType = UNSET
    error_detail: ErrorDetail | UnsetType = UNSET
    aux: Any = UNSET
