"""Manifests, indexes and configurations, as OCI and Docker write them.

A document that can be read as a manifest and as an index is refused as either: two readers would take it for two images
(CVE-2021-41190). Source: OCI image specification (manifest.md, image-index.md, config.md); moby image/spec and
image/tarexport.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from boxship.types.containers import ContainerConfig
from msgspec import UNSET, Struct, UnsetType, field

from boxshipd.errors import InvalidParameter

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

DOCUMENT_LIMIT = 8 << 20
"""The size in bytes up to which a manifest, an index or a configuration is read."""

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"

T = TypeVar("T")


class Platform(Struct, frozen=True, omit_defaults=True):
    """What an image runs on."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    os_version: str = field(name="os.version", default="")


class Descriptor(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A reference to a blob; ``size`` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    platform: Platform | None = None


class Index(Struct, rename="camel", frozen=True):
    """A list of manifests, or of further indexes."""

    manifests: list[Descriptor]
    schema_version: int = 2
    media_type: str = OCI_INDEX
    config: Any = UNSET
    layers: Any = UNSET

    def __post_init__(self) -> None:
        if self.config is not UNSET or self.layers is not UNSET:
            raise ValueError("it is an index and a manifest at once")


class Manifest(Struct, rename="camel", frozen=True):
    """One image for one platform."""

    config: Descriptor
    layers: list[Descriptor]
    schema_version: int = 2
    media_type: str = OCI_MANIFEST
    manifests: Any = UNSET

    def __post_init__(self) -> None:
        if self.manifests is not UNSET:
            raise ValueError("it is a manifest and an index at once")


class RootFS(Struct, frozen=True):
    """The digests of an image's layers, uncompressed, lowest first."""

    diff_ids: list[str]
    type: str = "layers"


class History(Struct, frozen=True, omit_defaults=True):
    """How one layer came to be. ``empty_layer``: it changed the configuration only."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Struct, frozen=True):
    """An image's configuration; its digest is the image's id.

    ``build_cache`` is what it says of its own layers to builds (``boxshipd.builder.cache.document``).
    """

    rootfs: RootFS
    architecture: str = ""
    os: str = ""
    variant: str | UnsetType = UNSET
    os_version: str | UnsetType = field(name="os.version", default=UNSET)
    created: str | None = None
    author: str | UnsetType = UNSET
    comment: str | UnsetType = UNSET
    docker_version: str | UnsetType = UNSET
    config: ContainerConfig | None = None
    history: list[History] | None = None
    build_cache: Any = field(name="boxship.build.cache.v1", default=UNSET)


class ArchivedImage(Struct, rename="pascal", frozen=True):
    """One image in ``manifest.json``; the strings are paths in the archive."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None
    layer_sources: dict[str, Descriptor] | UnsetType = UNSET


def decode(kind: type[T], data: bytes, what: str) -> T:
    """Decode one JSON document that came from outside.

    Args:
        kind: the type wanted.
        data: the document.
        what: its name, for the message.

    Raises:
        InvalidParameter: it isn't such a document, or is unreasonably large.
    """
    if len(data) > DOCUMENT_LIMIT:
        raise InvalidParameter(f"{what} has {len(data)} bytes, more than the {DOCUMENT_LIMIT} allowed")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid {what}: {error}") from error


def encode(document: Any) -> bytes:
    """Encode a document of ours, the same bytes every time."""
    return msgspec.json.encode(document)
