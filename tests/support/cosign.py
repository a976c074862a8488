"""A signer that writes what cosign writes: payloads, signatures by tag, OCI 1.1 referrers, Sigstore bundles, key files.

Every piece can be had by itself, so that a test can put together what no honest signer would.
Source: cosign pkg/cosign/payload, pkg/oci/signatures, pkg/oci/remote/write.go, cmd/cosign/cli/sign/sign.go, pkg/cosign/keys.go.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from support.archives import digest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
COSIGN_ARTIFACT = "application/vnd.dev.cosign.artifact.sig.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE_KEY = "dev.cosignproject.cosign/signature"
SIGNING = "https://sigstore.dev/cosign/sign/v1"
EMPTY = b"{}"

KINDS = ("p256", "p384", "p521", "rsa", "ed25519")


@cache
def _private(kind: str, which: int):
    """Keys are made once per process: RSA's take long."""
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}[kind]())


class Signer:
    """A key pair. ``which`` tells several of a kind apart; ``strong`` is the hash of the curve's strength, as in bundles."""

    def __init__(self, kind: str = "p256", which: int = 0) -> None:
        self.kind = kind
        self.private = _private(kind, which)

    @property
    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def hint(self) -> str:
        der = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    def sign(self, message: bytes, *, strong: bool = False) -> bytes:
        if self.kind == "ed25519":
            return self.private.sign(message)
        if self.kind == "rsa":
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        strength = {"p256": hashes.SHA256, "p384": hashes.SHA384, "p521": hashes.SHA512}[self.kind]
        return self.private.sign(message, ec.ECDSA(strength() if strong else hashes.SHA256()))

    def private_pem(self) -> bytes:
        """The private key, as nobody should name it in a policy."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))


def payload(reference: str, manifest_digest: str, **changes: object) -> bytes:
    """What cosign signs; ``changes`` replace fields by their last name."""
    kind = changes.get("type", "cosign container image signature")
    return _compact(
        {
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": manifest_digest},
                "type": kind,
            },
            "optional": changes.get("optional"),
        }
    )


def statement(manifest_digest: str, predicate: str = SIGNING, **changes: object) -> bytes:
    """What ``cosign sign`` puts into a bundle."""
    algorithm, _, checksum = manifest_digest.partition(":")
    return _compact(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {algorithm: checksum}, "annotations": {}}],
            "predicateType": predicate,
            "predicate": {},
            **changes,
        }
    )


def bundle(signer: Signer, body: bytes, **changes: object) -> bytes:
    """A bundle around a statement, as protojson writes it."""
    kind = "application/vnd.in-toto+json"
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(body), body)
    return _compact(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": signer.hint}},
            "dsseEnvelope": {
                "payload": _b64(body),
                "payloadType": kind,
                "signatures": [{"sig": _b64(signer.sign(encoded, strong=True))}],
            },
            **changes,
        }
    )


def message_bundle(signer: Signer, message: bytes) -> bytes:
    """A bundle of a signature of bytes, as ``cosign sign-blob`` makes it."""
    return _compact(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": signer.hint}},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": _b64(hashlib.sha256(message).digest())},
                "signature": _b64(signer.sign(message, strong=True)),
            },
        }
    )


@dataclass
class Layer:
    """A layer of a manifest of signatures. ``size`` and ``digest``, if given, are what the manifest says of it."""

    data: bytes
    media_type: str = SIMPLE_SIGNING
    annotations: dict[str, str] = field(default_factory=dict)
    size: int | None = None
    digest: str = ""

    @property
    def descriptor(self) -> dict[str, object]:
        size = len(self.data) if self.size is None else self.size
        described = {"mediaType": self.media_type, "size": size, "digest": self.digest or digest(self.data)}
        return {**described, "annotations": self.annotations} if self.annotations else described


def signed_layer(signer: Signer, body: bytes) -> Layer:
    """A payload with its signature."""
    return Layer(body, annotations={SIGNATURE_KEY: _b64(signer.sign(body))})


def signature_config(layers: list[Layer]) -> bytes:
    return _compact(
        {
            "architecture": "",
            "created": "0001-01-01T00:00:00Z",
            "history": [{"created": "0001-01-01T00:00:00Z"} for _ in layers],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [digest(layer.data) for layer in layers]},
            "config": {},
        }
    )


def signature_manifest(layers: list[Layer]) -> bytes:
    """The manifest at the tag ``sha256-<hex>.sig``."""
    config = signature_config(layers)
    return _compact(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
            "layers": [layer.descriptor for layer in layers],
        }
    )


def referrer_manifest(layers: list[Layer], subject: bytes, artifact_type: str = BUNDLE, config_type: str = "") -> bytes:
    """A manifest that refers to ``subject``; its configuration is ``{}``."""
    return _compact(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": artifact_type,
            "config": {
                "mediaType": config_type or "application/vnd.oci.empty.v1+json",
                "size": len(EMPTY),
                "digest": digest(EMPTY),
            },
            "layers": [layer.descriptor for layer in layers],
            "subject": {"mediaType": MANIFEST, "size": len(subject), "digest": digest(subject)},
        }
    )


def referrers_index(manifests: list[bytes], artifact_type: str = BUNDLE) -> bytes:
    """The list of manifests that refer to something."""
    return _compact(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [
                {"mediaType": MANIFEST, "size": len(data), "digest": digest(data), "artifactType": artifact_type}
                for data in manifests
            ],
        }
    )


def signature_tag(manifest: bytes) -> str:
    return digest(manifest).replace(":", "-") + ".sig"


def referrers_tag(manifest: bytes) -> str:
    return digest(manifest).replace(":", "-")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
