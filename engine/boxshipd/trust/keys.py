"""Public keys, and whether a signature was made with one of them.

The only module that imports ``cryptography``; it is imported itself only once a policy asks for signatures.

A signature doesn't say how it was made, so the key decides: ECDSA with the hash of its curve's strength, or SHA-256, which
cosign uses for all curves where signatures are kept by tag; RSA with PKCS #1 v1.5 and SHA-256; Ed25519 as it is. Prehashed
Ed25519, which cosign makes for its transparency log, isn't verified: the library hasn't it.
Source: cosign specs/SIGNATURE_SPEC.md; sigstore/sigstore pkg/signature (LoadVerifier, algorithm_registry.go).
"""

from __future__ import annotations

import hashlib
import re

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from boxshipd.errors import InvalidParameter

_SMALLEST_RSA = 2048
_LARGEST_RSA = 8192
_LONGEST_SIGNATURE = _LARGEST_RSA // 8
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_CURVES: dict[str, tuple[hashes.HashAlgorithm, ...]] = {
    "secp256r1": (hashes.SHA256(),),
    "secp384r1": (hashes.SHA384(), hashes.SHA256()),
    "secp521r1": (hashes.SHA512(), hashes.SHA256()),
}

_Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


class PublicKey:
    """One key that signatures may be made with.

    Attributes:
        fingerprint: the beginning of the SHA-256 checksum of its DER form, by which messages name it.
    """

    def __init__(self, key: _Key) -> None:
        self._key = key
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.fingerprint = hashlib.sha256(der).hexdigest()[:16]

    def made(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is one of ``message``, made with this key."""
        if not signature or len(signature) > _LONGEST_SIGNATURE:
            return False
        if isinstance(self._key, ec.EllipticCurvePublicKey):
            return any(_ecdsa(self._key, signature, message, algorithm) for algorithm in _CURVES[self._key.curve.name])
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
            else:
                self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def read_keys(data: bytes) -> list[PublicKey]:
    """The public keys of a PEM file: one or several, and nothing else.

    Raises:
        InvalidParameter: there is none, or something that isn't a key signatures are made with.
    """
    blocks = list(_PEM.finditer(data))
    if not blocks:
        raise InvalidParameter("it has no public key in PEM form")
    keys = []
    for block in blocks:
        kind = block[1].decode()
        if kind not in ("PUBLIC KEY", "RSA PUBLIC KEY"):
            raise InvalidParameter(f"it has a {kind}; only public keys belong here")
        try:
            keys.append(PublicKey(_checked(load_pem_public_key(block[0]))))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise InvalidParameter(f"it has a public key that can't be read: {error}") from error
    return keys


def _checked(key: object) -> _Key:
    """The key, if it is of a kind that signatures of images are made with.

    Raises:
        InvalidParameter: it isn't, or is too weak, or so large that verifying takes long.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise InvalidParameter(f"it has an ECDSA key on {key.curve.name}; P-256, P-384 and P-521 are taken")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if not _SMALLEST_RSA <= key.key_size <= _LARGEST_RSA:
            raise InvalidParameter(f"it has an RSA key of {key.key_size} bits; {_SMALLEST_RSA} to {_LARGEST_RSA} are taken")
        return key
    raise InvalidParameter(f"it has a key of a kind that isn't taken ({type(key).__name__}): ECDSA, RSA and Ed25519 are")


def _ecdsa(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True
