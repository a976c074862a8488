"""Attestations: manifests of an index that say something of its images, in statements of in-toto.

Source: BuildKit docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from boxshipd.errors import DaemonError
from boxshipd.images.blob import Blob
from boxshipd.images.content import ContentStore, Session
from boxshipd.images.model import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest, Platform, decode, encode

REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION = "attestation-manifest"
STATEMENT = "application/vnd.in-toto+json"
PREDICATE_TYPE = "in-toto.io/predicate-type"

_UNKNOWN = Platform("unknown", "unknown")


class _RootFS(Struct, frozen=True):
    diff_ids: list[str]
    type: str = "layers"


class _Config(Struct, frozen=True):
    """An image's configuration for nothing that could run, so that registries take the manifest for an image's."""

    rootfs: _RootFS
    architecture: str = "unknown"
    os: str = "unknown"
    config: dict[str, str] = {}


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether an index lists a manifest as one that says something of another."""
    return (descriptor.annotations or {}).get(REFERENCE_TYPE) == ATTESTATION


def attach(session: Session, subject: str, statement: bytes, predicate: str) -> Descriptor:
    """Put a statement into the content store, pinned by ``session``, with a manifest; that one for the index.

    Args:
        session: pins it.
        subject: the digest of the manifest that it speaks of.
        statement: the document.
        predicate: what kind of thing it says.
    """
    blob = session.put(statement)
    config = session.put(encode(_Config(_RootFS([blob.digest]))))
    layer = Descriptor(STATEMENT, blob.digest, blob.size, {PREDICATE_TYPE: predicate})
    manifest = session.put(encode(Manifest(Descriptor(OCI_CONFIG, config.digest, config.size), [layer])))
    return _listed(manifest, subject)


def _listed(manifest: Blob, subject: str) -> Descriptor:
    annotations = {REFERENCE_TYPE: ATTESTATION, REFERENCE_DIGEST: subject}
    return Descriptor(OCI_MANIFEST, manifest.digest, manifest.size, annotations, _UNKNOWN)


def attached(content: ContentStore, manifests: Iterable[Descriptor]) -> dict[str, frozenset[str]]:
    """By the digest of each attestation's manifest of an index, all that it is made of, as far as it is here whole."""
    found: dict[str, frozenset[str]] = {}
    for descriptor in manifests:
        if not is_attestation(descriptor) or not content.has(descriptor.digest):
            continue
        try:
            manifest = decode(Manifest, content.read(descriptor.digest), "attestation manifest")
        except DaemonError:
            # Damaged, or no manifest: as good as not here.
            continue
        parts = {descriptor.digest, manifest.config.digest, *(layer.digest for layer in manifest.layers)}
        if all(content.has(part) for part in parts):
            found[descriptor.digest] = frozenset(parts)
    return found


def statement_of(subjects: list[dict[str, object]], predicate_type: str, predicate: object) -> bytes:
    """A statement of in-toto, version 0.1 as BuildKit writes it."""
    return msgspec.json.encode(
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": predicate_type,
            "subject": subjects,
            "predicate": predicate,
        }
    )
