"""Whose signature it is: the name that a signature gives, against the one that was asked for.

A signature of an image names it, so that what was signed as one repository's can't be served as another's. The kinds are those
of containers-policy.json(5), and two of ours: ``remapRepository``, since cosign's signatures name no tag, and
``matchDigestOnly``, since a Sigstore bundle names nothing but a digest.
Source: containers/image signature/policy_reference_match.go.
"""

from __future__ import annotations

from msgspec import Struct

from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.reference import Reference
from boxshipd.trust.scopes import check_prefix


class MatchExact(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="matchExact"):
    """The very name that was asked for, its tag or digest included."""


class MatchRepoDigestOrExact(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="matchRepoDigestOrExact"):
    """The name with its tag, where one was asked for; else the repository."""


class MatchRepository(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="matchRepository"):
    """The repository that was asked for, with any tag or none."""


class ExactReference(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="exactReference", rename="camel", kw_only=True
):
    """One given name with its tag or digest."""

    docker_reference: str


class ExactRepository(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="exactRepository", rename="camel", kw_only=True
):
    """One given repository, with any tag or none."""

    docker_repository: str


class RemapIdentity(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="remapIdentity", rename="camel", kw_only=True
):
    """As ``matchRepoDigestOrExact``, for a name of which ``prefix``, where it has it, is replaced by ``signed_prefix``."""

    prefix: str
    signed_prefix: str


class RemapRepository(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="remapRepository", rename="camel", kw_only=True
):
    """As ``matchRepository``, for a name of which ``prefix``, where it has it, is replaced by ``signed_prefix``."""

    prefix: str
    signed_prefix: str


class MatchDigestOnly(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="matchDigestOnly"):
    """Any name or none: that the signature is of this image's digest is enough, as it is for ``cosign verify``."""


Identity = (
    MatchExact
    | MatchRepoDigestOrExact
    | MatchRepository
    | ExactReference
    | ExactRepository
    | RemapIdentity
    | RemapRepository
    | MatchDigestOnly
)


def check_identity(identity: Identity) -> None:
    """Refuse an identity that can't be right, or that nothing can match.

    Raises:
        InvalidParameter: with what is wrong.
    """
    match identity:
        case ExactReference(docker_reference=text):
            if not _has_tag_or_digest(reference.parse(text)):
                raise InvalidParameter(f"exactReference {text!r}: it must have a tag or a digest")
        case ExactRepository(docker_repository=text):
            if _has_tag_or_digest(reference.parse(text)):
                raise InvalidParameter(f"exactRepository {text!r}: it must have neither a tag nor a digest")
        case RemapIdentity(prefix=prefix, signed_prefix=signed) | RemapRepository(prefix=prefix, signed_prefix=signed):
            check_prefix(prefix)
            check_prefix(signed)


def expected(identity: Identity, asked: Reference) -> str:
    """What a signature's name must be for an image that was asked for, in words."""
    match identity:
        case MatchExact():
            return str(asked)
        case ExactReference(docker_reference=text):
            return str(reference.parse(text))
        case ExactRepository(docker_repository=text):
            return f"{reference.parse(text).name} with any tag or none"
        case MatchDigestOnly():
            return "any name or none"
    wanted = remapped(identity, asked)
    if wanted.tag and not isinstance(identity, MatchRepository | RemapRepository):
        return f"{wanted.name}:{wanted.tag}"
    return f"{wanted.name} with any tag or none"


def matches(identity: Identity, asked: Reference, signed: str) -> bool:
    """Whether a signature that names ``signed`` counts for an image that was asked for as ``asked``."""
    if isinstance(identity, MatchDigestOnly):
        return True
    try:
        named = _lowered(reference.parse(signed))
    except InvalidParameter:
        return False
    match identity:
        case MatchExact():
            return _has_tag_or_digest(named) and named == _lowered(asked)
        case ExactReference(docker_reference=text):
            return _has_tag_or_digest(named) and named == _lowered(reference.parse(text))
        case ExactRepository(docker_repository=text):
            return named.name == _lowered(reference.parse(text)).name
    wanted = _lowered(remapped(identity, asked))
    if named.name != wanted.name:
        return False
    if isinstance(identity, MatchRepository | RemapRepository):
        return True
    # A tag that was asked for must have been signed: else an old image of a repository would pass for its newest. By digest
    # there is no doubt which image is meant; that the signature is of this digest is checked elsewhere.
    return named.tag == wanted.tag if wanted.tag else _has_tag_or_digest(named)


def remapped(identity: Identity, asked: Reference) -> Reference:
    """The name that a signature is expected to be of: ``asked``, with its prefix replaced where the identity says so."""
    if not isinstance(identity, RemapIdentity | RemapRepository):
        return asked
    name = _lowered(asked).name
    if name != identity.prefix and not name.startswith(f"{identity.prefix}/"):
        return asked
    moved = identity.signed_prefix + name.removeprefix(identity.prefix)
    try:
        if "/" not in moved:
            raise InvalidParameter("a registry alone names no image")
        signed = reference.parse(moved)
    except InvalidParameter as error:
        raise InvalidParameter(f"{asked.name} with its prefix replaced is no name: {moved}: {error}") from error
    return signed._replace(tag=asked.tag, digest=asked.digest)


def _has_tag_or_digest(name: Reference) -> bool:
    return bool(name.tag or name.digest)


def _lowered(name: Reference) -> Reference:
    return name._replace(domain=name.domain.lower())
