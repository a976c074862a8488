"""The manifests and indexes that signatures come in, read as things an attacker wrote.

Their own module, since what counts differs from images: ``artifactType`` and ``subject`` matter, configurations don't, and a
document that is wrong is one signature less rather than an error.
Source: OCI image specification 1.1, manifest.md and image-index.md; cosign specs/SIGNATURE_SPEC.md.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import Digest, parse_digest
from boxshipd.images.model import OCI_INDEX, OCI_MANIFEST, decode
from boxshipd.trust.errors import BadSignature

DOCUMENT_LIMIT = 4 << 20
"""Bytes up to which a manifest or an index is read; registries refuse larger ones. Source: OCI distribution specification."""
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
SIGNATURE_KEY = "dev.cosignproject.cosign/signature"
BUNDLE_TYPES = re.compile(r"application/vnd\.dev\.sigstore\.bundle(\.v0\.3\+json|\+json;\s?version=0\.[23])")
"""The layers' types that bundles have. Source: sigstore-go pkg/bundle, MediaTypeString and getBundleVersion."""

_ABSENT = Raw()
D = TypeVar("D", "SignatureManifest", "ReferrersIndex")


class Descriptor(Struct, frozen=True, rename="camel"):
    """What a manifest says of a blob, or an index of a manifest."""

    media_type: str
    digest: str
    size: int
    annotations: dict[str, str] | None = None
    artifact_type: str = ""


class SignatureManifest(Struct, frozen=True, rename="camel"):
    """A manifest whose layers are signatures."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = OCI_MANIFEST
    artifact_type: str = ""
    subject: Descriptor | None = None
    # There to be refused: a document with both is a manifest to one reader and an index to another.
    manifests: Raw = _ABSENT


class ReferrersIndex(Struct, frozen=True, rename="camel"):
    """The list of what refers to an image."""

    schema_version: int
    manifests: list[Descriptor]
    media_type: str = OCI_INDEX
    layers: Raw = _ABSENT


def read_manifest(data: bytes, served_as: str) -> SignatureManifest:
    """Decode a manifest of signatures.

    Args:
        data: the document, verified against its digest where one is known.
        served_as: its media type as the registry gave it.

    Raises:
        BadSignature: it isn't one.
    """
    manifest = _decode(SignatureManifest, data, "manifest")
    if _there(manifest.manifests):
        raise BadSignature("a document that is both a manifest and an index")
    _check(manifest.schema_version, manifest.media_type, served_as, OCI_MANIFEST)
    return manifest


def read_index(data: bytes, served_as: str) -> ReferrersIndex:
    """Decode a list of referrers.

    Raises:
        BadSignature: it isn't one.
    """
    index = _decode(ReferrersIndex, data, "list of referrers")
    if _there(index.layers):
        raise BadSignature("a document that is both a manifest and an index")
    _check(index.schema_version, index.media_type, served_as, OCI_INDEX)
    return index


class _Kinds(Struct, frozen=True):
    manifests: Raw = _ABSENT
    layers: Raw = _ABSENT
    config: Raw = _ABSENT


def refuse_ambiguous(data: bytes, *, an_index: bool) -> None:
    """Refuse an image's document that one reader would take for a manifest and another for an index.

    A signature is of bytes: whoever signed them must have meant what we read. Source: GHSA-5j5w-g665-5m35.

    Raises:
        InvalidParameter: it can be read as what it isn't said to be, or not at all.
    """
    kinds = decode(_Kinds, data, "index" if an_index else "manifest")
    lists = _there(kinds.manifests)
    if lists == (_there(kinds.layers) or _there(kinds.config)):
        raise InvalidParameter("a document that is both a manifest and an index, or neither")
    if lists != an_index:
        raise InvalidParameter(f"an {'index' if an_index else 'manifest'} was announced, and it is the other")


def _there(field: Raw) -> bool:
    """Whether a document has a field that says something."""
    return bytes(field) not in (b"", b"null")


def checked_digest(descriptor: Descriptor) -> Digest:
    """A descriptor's digest; its size is known to be no nonsense then.

    Raises:
        BadSignature: it has none that can be used.
    """
    if descriptor.size < 0:
        raise BadSignature(f"a size of {descriptor.size} bytes")
    try:
        return parse_digest(descriptor.digest)
    except InvalidParameter as error:
        raise BadSignature(str(error)[:300]) from error


def _decode(kind: type[D], data: bytes, what: str) -> D:
    if len(data) > DOCUMENT_LIMIT:
        raise BadSignature(f"a {what} of {len(data)} bytes: at most {DOCUMENT_LIMIT}")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSignature(f"invalid {what}: {str(error)[:300]}") from error


def _check(schema_version: int, media_type: str, served_as: str, expected: str) -> None:
    if schema_version != 2:
        raise BadSignature(f"schema version {schema_version}, not 2")
    if media_type != expected:
        raise BadSignature(f"media type {media_type[:100]!r}, not {expected}")
    if served_as.partition(";")[0].strip() != media_type:
        raise BadSignature(f"served as {served_as[:100]!r}, and says of itself that it is {media_type}")
