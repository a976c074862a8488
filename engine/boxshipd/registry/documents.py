"""Manifests and indexes as registries serve them, read strictly: what two programs could read differently is refused.

A document is what its media type says, and nothing else as well. It has the fields of one kind only, no field twice, none in
another spelling (Go reads ``Layers`` as ``layers``), and its own ``mediaType``, where it has one, is the one it was served
with.
Source: OCI image specification (manifest.md, image-index.md) and its advisory GHSA-77vh-xpmg-72qh (CVE-2021-41190);
distribution docs/spec/manifest-v2-2.md; containerd core/images (``validateMediaType``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Struct, field

from boxshipd.images.digest import parse_digest, sha256
from boxshipd.images.model import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
)
from boxshipd.registry.errors import BadDocument

T = TypeVar("T")

LIMIT = 4 << 20
"""The bytes a manifest or an index may have: the least that the specification has registries take."""
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
ACCEPT = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"))
_UNTYPED = frozenset({"", "application/json", "text/plain", "application/octet-stream", "text/html"})
_OF_INDEX = frozenset({"manifests"})
_OF_MANIFEST = frozenset({"config", "layers"})
_OF_SCHEMA1 = frozenset({"fsLayers", "signatures"})
_KNOWN = _OF_INDEX | _OF_MANIFEST | _OF_SCHEMA1 | {"schemaVersion", "mediaType", "artifactType", "subject", "annotations"}
_BY_FOLDED = {name.casefold(): name for name in _KNOWN}
_LAYERS = 500
_MANIFESTS = 4096


class RemotePlatform(Struct, frozen=True, omit_defaults=True):
    """What a manifest in an index runs on."""

    architecture: str = ""
    os: str = ""
    os_version: str = field(name="os.version", default="")
    os_features: list[str] | None = field(name="os.features", default=None)
    variant: str = ""
    features: list[str] | None = None


class RemoteDescriptor(Struct, rename="camel", frozen=True, omit_defaults=True):
    """A reference to a blob or a document; ``size`` in bytes.

    ``urls`` are where else it may be had. They are kept, for others, and never asked.
    """

    media_type: str
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    data: str | None = None
    platform: RemotePlatform | None = None
    artifact_type: str | None = None

    @property
    def attestation(self) -> bool:
        """Whether it is BuildKit's statement about another manifest rather than an image."""
        return bool(self.annotations and self.annotations.get("vnd.docker.reference.type"))


class RemoteManifest(Struct, rename="camel", frozen=True, omit_defaults=True):
    """One image for one platform."""

    config: RemoteDescriptor
    layers: list[RemoteDescriptor]
    schema_version: int = 0
    media_type: str = ""
    artifact_type: str | None = None
    subject: RemoteDescriptor | None = None
    annotations: dict[str, str] | None = None


class RemoteIndex(Struct, rename="camel", frozen=True, omit_defaults=True):
    """Manifests for several platforms."""

    manifests: list[RemoteDescriptor]
    schema_version: int = 0
    media_type: str = ""
    artifact_type: str | None = None
    subject: RemoteDescriptor | None = None
    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or an index with the bytes that its digest is of."""

    media_type: str
    digest: str
    data: bytes
    content: RemoteManifest | RemoteIndex

    @property
    def descriptor(self) -> RemoteDescriptor:
        """A reference to it."""
        return RemoteDescriptor(self.media_type, self.digest, len(self.data))


def read(data: bytes, served_as: str, digest: str = "") -> Document:
    """Read a document.

    Args:
        data: its bytes.
        served_as: the ``Content-Type`` it came with, or the media type its descriptor has.
        digest: what it was asked for by, already verified; by default its digest is worked out.

    Raises:
        BadDocument: it is none, could be taken for two things, or is of a kind that isn't supported.
    """
    if len(data) > LIMIT:
        _refuse(f"it has {len(data)} bytes, more than the {LIMIT} allowed")
    fields = _fields(data)
    served_as = served_as.partition(";")[0].strip().lower()
    named = fields.get("mediaType", "")
    if not isinstance(named, str):
        _refuse("its mediaType isn't a text")
    if served_as in SCHEMA1_TYPES or named in SCHEMA1_TYPES or fields.get("schemaVersion") == 1:
        _refuse(
            "it is of Docker's schema 1, which is not supported; push the image again with a current client to have it "
            "converted"
        )
    if fields.get("schemaVersion") != 2:
        _refuse(f"unsupported schemaVersion {fields.get('schemaVersion')!r}")
    media_type = _media_type(served_as, named, fields)
    content: RemoteManifest | RemoteIndex
    if media_type in INDEX_TYPES:
        content = _convert(data, RemoteIndex)
        _check_descriptors(content.manifests, _MANIFESTS)
    else:
        content = _convert(data, RemoteManifest)
        _check_descriptors([content.config, *content.layers], _LAYERS + 1)
    return Document(media_type, digest or sha256(data), data, content)


def _media_type(served_as: str, named: str, fields: dict[str, Any]) -> str:
    """What a document is: what it was served as, unless something about it says otherwise, which is refused."""
    index, manifest = _OF_INDEX & fields.keys(), _OF_MANIFEST & fields.keys()
    if _OF_SCHEMA1 & fields.keys() or (index and manifest):
        _refuse("it could be taken for more than one kind of document")
    if served_as in _UNTYPED:
        served_as = named or (OCI_INDEX if index else OCI_MANIFEST)
    if named and named != served_as:
        _refuse(f"it was served as {served_as!r}, and calls itself {named!r}")
    if served_as in INDEX_TYPES:
        if not index:
            _refuse("it was served as an index, and isn't one")
    elif served_as in MANIFEST_TYPES:
        if manifest != _OF_MANIFEST:
            _refuse("it was served as a manifest, and isn't one")
    else:
        _refuse(f"unsupported media type {served_as!r}")
    return served_as


def _fields(data: bytes) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            _refuse("it has a field twice")
        return fields

    try:
        fields = json.loads(data, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        _refuse(f"it isn't JSON ({error})")
    if not isinstance(fields, dict):
        _refuse("it isn't a JSON object")
    for name in fields:
        if _BY_FOLDED.get(name.casefold(), name) != name:
            _refuse(f"it has a field {name!r}, which could be taken for {_BY_FOLDED[name.casefold()]!r}")
    return fields


def _convert(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        _refuse(str(error))


def _check_descriptors(descriptors: list[RemoteDescriptor], limit: int) -> None:
    if len(descriptors) > limit:
        _refuse(f"it names {len(descriptors)} parts, more than the {limit} allowed")
    for descriptor in descriptors:
        parse_digest(descriptor.digest)
        if not 0 <= descriptor.size < 1 << 62:
            _refuse(f"{descriptor.digest} can't have {descriptor.size} bytes")


def _refuse(reason: str) -> NoReturn:
    raise BadDocument(f"invalid manifest: {reason}")
