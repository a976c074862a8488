"""One requirement of a signature, held against one signature after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import parse_digest
from boxshipd.images.reference import Reference
from boxshipd.trust.bundle import decode_base64, open_bundle, read_statement
from boxshipd.trust.discovery import Candidate
from boxshipd.trust.errors import BadSignature
from boxshipd.trust.identity import MatchDigestOnly, MatchExact, MatchRepoDigestOrExact, RemapIdentity, expected, matches
from boxshipd.trust.payload import Claim, read_payload
from boxshipd.trust.policy import SignedWith

if TYPE_CHECKING:
    # Imports cryptography, which an engine without required signatures never does.
    from boxshipd.trust.keys import PublicKey


class Check:
    """A requirement for one image.

    Args:
        signed: the requirement.
        keys: its keys.
        name: of the image, as the user asked for it.

    Attributes:
        wanted: what is required, in words.
        problems: why signatures that were looked at don't fulfil it.

    Raises:
        InvalidParameter: the policy's prefixes make no name of the image's.
    """

    def __init__(self, signed: SignedWith, keys: Sequence[PublicKey], name: Reference) -> None:
        self._identity = signed.identity
        self._keys = keys
        self._name = name
        fingerprints = ", ".join(key.fingerprint for key in keys[:8]) + (", ..." if len(keys) > 8 else "")
        self.wanted = (
            f"{expected(self._identity, name)} with {'the key' if len(keys) == 1 else 'one of the keys'} {fingerprints}"
        )
        self.problems: list[str] = []

    def fulfilled_by(self, candidate: Candidate, document: bytes, subject: str) -> bool:
        """Whether a signature fulfils the requirement; if not, why is noted.

        Args:
            candidate: the signature.
            document: the manifest or index it was found for.
            subject: its SHA-256 digest.
        """
        try:
            self._accept(_verified(candidate, document, subject, self._keys), document)
        except BadSignature as error:
            self.problems.append(f"{candidate.where}: {error}")
            return False
        return True

    def _accept(self, claim: Claim, document: bytes) -> None:
        if not any(_is_digest_of(digest, document) for digest in claim.digests):
            raise BadSignature(f"a signature of another image, {', '.join(claim.digests)[:200]}")
        if claim.reference is None:
            if not isinstance(self._identity, MatchDigestOnly):
                hint = '"signedIdentity" of the type "matchDigestOnly" accepts it'
                raise BadSignature(f"a signature that names no image, as those in Sigstore bundles do; {hint}")
        elif not matches(self._identity, self._name, claim.reference):
            raise BadSignature(f"a signature as {claim.reference[:200]!r}{self._hint(claim.reference)}")

    def _hint(self, signed: str) -> str:
        """What to do about a signature that names the repository alone, as cosign's do."""
        if "@" in signed or ":" in signed.rpartition("/")[2]:
            return ""
        match self._identity:
            case MatchExact() | MatchRepoDigestOrExact():
                kind = "matchRepository"
            case RemapIdentity():
                kind = "remapRepository"
            case _:
                return ""
        return f', without a tag, as cosign makes them; "signedIdentity" of the type "{kind}" accepts any tag of a repository'


def _verified(candidate: Candidate, document: bytes, subject: str, keys: Sequence[PublicKey]) -> Claim:
    """What a signature says, once it is known to be one of the keys'.

    Raises:
        BadSignature: it isn't.
    """
    if candidate.signature is not None:
        _require_key(keys, decode_base64(candidate.signature, "the signature"), candidate.data)
        return read_payload(candidate.data)
    signed = open_bundle(candidate.data, document)
    _require_key(keys, signed.signature, signed.message)
    return read_statement(signed.statement) if signed.statement is not None else Claim((subject,), None)


def _require_key(keys: Sequence[PublicKey], signature: bytes, message: bytes) -> None:
    if not any(key.made(signature, message) for key in keys):
        raise BadSignature("a signature that none of the required keys made")


def _is_digest_of(text: str, document: bytes) -> bool:
    try:
        digest = parse_digest(text)
    except InvalidParameter:
        return False
    return hashlib.new(digest.algorithm, document).hexdigest() == digest.hex
