"""Simple signing: what cosign and containers/image sign about an image, and where it says what it is of.

Parsed only after its signature was verified. Nothing but ``optional`` may have fields that aren't known here.
Source: cosign specs/SIGNATURE_SPEC.md; containers/image signature/internal/sigstore_payload.go.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field

from boxshipd.trust.errors import BadSignature
from boxshipd.trust.strict_json import StrictJSONError, decode_strictly

PAYLOAD_LIMIT = 64 << 10
"""Bytes up to which a payload is read: cosign's have some 250, and what annotations the signer adds."""
_TYPE = "cosign container image signature"


class _SignedIdentity(Struct, frozen=True, forbid_unknown_fields=True):
    reference: str = field(name="docker-reference")


class _SignedImage(Struct, frozen=True, forbid_unknown_fields=True):
    digest: str = field(name="docker-manifest-digest")


class _Critical(Struct, frozen=True, forbid_unknown_fields=True):
    identity: _SignedIdentity
    image: _SignedImage
    type: str


class _Payload(Struct, frozen=True, forbid_unknown_fields=True):
    critical: _Critical
    # Required, and null where cosign has nothing to add.
    optional: dict[str, Any] | None


class Claim(Struct, frozen=True):
    """What a signature says: the digests it is of, and the name it gives the image, if it gives one."""

    digests: tuple[str, ...]
    reference: str | None


def read_payload(data: bytes) -> Claim:
    """Read what was signed.

    Raises:
        BadSignature: it isn't a signature of an image.
    """
    try:
        critical = decode_strictly(_Payload, data).critical
    except StrictJSONError as error:
        raise BadSignature(f"invalid payload: {str(error)[:300]}") from error
    if critical.type != _TYPE:
        raise BadSignature(f"payload of type {critical.type[:100]!r}, not {_TYPE!r}")
    return Claim((critical.image.digest,), critical.identity.reference)
