"""Sigstore bundles made with a key: what ``cosign sign`` writes since its version 3.

A bundle has either an envelope (DSSE) around an in-toto statement, which has the image's digest as its subject, or a signature
of the manifest's very bytes. Of statements only cosign's own kind is a signature: others, such as the result of a scan, are
said *about* an image by the same key, and approve of nothing. Entries of transparency logs and timestamps may be there and
aren't looked at, as with any signature that a given key made.
Source: sigstore/protobuf-specs sigstore_bundle.proto; secure-systems-lab/dsse protocol.md; in-toto attestation spec/v1;
cosign cmd/cosign/cli/sign/sign.go (signDigestBundle).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from msgspec import Struct, field

from boxshipd.images.digest import sha256
from boxshipd.trust.documents import BUNDLE_TYPES
from boxshipd.trust.errors import BadSignature
from boxshipd.trust.payload import Claim
from boxshipd.trust.strict_json import StrictJSONError, decode_strictly

BUNDLE_LIMIT = 256 << 10
"""Bytes up to which a bundle is read; one with a log's entry and a timestamp has some 10,000."""
_STATEMENT = "https://in-toto.io/Statement/v1"
_SIGNING = "https://sigstore.dev/cosign/sign/v1"
_IN_TOTO = "application/vnd.in-toto+json"
_SUBJECTS = 32


class _PublicKey(Struct, frozen=True, forbid_unknown_fields=True):
    hint: str = ""


class _Material(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    public_key: _PublicKey | None = None
    certificate: Any = None
    x509_certificate_chain: Any = None
    tlog_entries: list[Any] | None = None
    timestamp_verification_data: Any = None


class _EnvelopeSignature(Struct, frozen=True, forbid_unknown_fields=True):
    sig: str
    keyid: str = ""


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_EnvelopeSignature]


class _MessageDigest(Struct, frozen=True, forbid_unknown_fields=True):
    algorithm: str
    digest: str


class _MessageSignature(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    signature: str
    message_digest: _MessageDigest | None = None


class _Bundle(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope | None = None
    message_signature: _MessageSignature | None = None


class _Subject(Struct, frozen=True):
    digest: dict[str, str]


class _Statement(Struct, frozen=True, rename="camel"):
    subject: list[_Subject]
    predicate_type: str
    type: str = field(name="_type")


class Signed(Struct, frozen=True):
    """What a bundle's signature is of: the bytes, and the signature in its binary form.

    Attributes:
        statement: the statement, to be read once the signature is verified; None where the bytes are the manifest itself.
    """

    message: bytes
    signature: bytes
    statement: bytes | None


def open_bundle(data: bytes, manifest: bytes) -> Signed:
    """Take a bundle apart.

    Args:
        data: the bundle.
        manifest: the image's manifest, which a message's signature is of.

    Raises:
        BadSignature: it isn't a bundle made with a key.
    """
    try:
        bundle = decode_strictly(_Bundle, data)
    except StrictJSONError as error:
        raise BadSignature(f"invalid bundle: {str(error)[:300]}") from error
    if not BUNDLE_TYPES.fullmatch(bundle.media_type):
        raise BadSignature(f"bundle of type {bundle.media_type[:100]!r}")
    material = bundle.verification_material
    if material.certificate is not None or material.x509_certificate_chain is not None or material.public_key is None:
        raise BadSignature("bundle made with a certificate (keyless); only signatures made with a key are verified")
    if (bundle.dsse_envelope is None) == (bundle.message_signature is None):
        raise BadSignature("bundle has not exactly one of dsseEnvelope and messageSignature")
    if bundle.dsse_envelope is not None:
        return _enveloped(bundle.dsse_envelope)
    assert bundle.message_signature is not None
    return _of_message(bundle.message_signature, manifest)


def read_statement(data: bytes) -> Claim:
    """Read a statement whose signature was verified.

    Raises:
        BadSignature: it doesn't say that an image is signed.
    """
    try:
        statement = decode_strictly(_Statement, data)
    except StrictJSONError as error:
        raise BadSignature(f"invalid statement: {str(error)[:300]}") from error
    if statement.type != _STATEMENT:
        raise BadSignature(f"statement of type {statement.type[:100]!r}")
    predicate, subjects = statement.predicate_type, statement.subject
    if predicate != _SIGNING:
        raise BadSignature(f"statement about the image rather than a signature: {predicate[:100]!r}, not {_SIGNING!r}")
    if not 1 <= len(subjects) <= _SUBJECTS:
        raise BadSignature(f"statement with {len(subjects)} subjects")
    return Claim(tuple(f"sha256:{subject.digest.get('sha256', '')}" for subject in subjects), None)


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that an envelope's signature is of. Source: DSSE protocol.md, "PAE"."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def decode_base64(text: str, what: str) -> bytes:
    """Decode standard base64 with nothing else in it but ends of lines, which Go's decoder, and so cosign, passes over.

    Raises:
        BadSignature: it isn't that.
    """
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", "").encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise BadSignature(f"{what} isn't base64: {error}") from error


def _enveloped(envelope: _Envelope) -> Signed:
    if envelope.payload_type != _IN_TOTO:
        raise BadSignature(f"envelope around {envelope.payload_type[:100]!r}, not {_IN_TOTO}")
    if len(envelope.signatures) != 1:
        raise BadSignature(f"envelope with {len(envelope.signatures)} signatures, not one")
    payload = decode_base64(envelope.payload, "the envelope's payload")
    signature = decode_base64(envelope.signatures[0].sig, "the envelope's signature")
    return Signed(pre_authentication_encoding(envelope.payload_type, payload), signature, payload)


def _of_message(message: _MessageSignature, manifest: bytes) -> Signed:
    if message.message_digest is not None:
        told = message.message_digest
        checksum = decode_base64(told.digest, "the message's digest").hex()
        if told.algorithm != "SHA2_256" or f"sha256:{checksum}" != sha256(manifest):
            raise BadSignature(f"bundle is of another message: {told.algorithm[:20]} {checksum[:64]}")
    return Signed(manifest, decode_base64(message.signature, "the message's signature"), None)
