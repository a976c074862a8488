"""The signature policy: a file in the format of containers-policy.json(5), which Podman, skopeo and CRI-O use.

    {"default": [{"type": "reject"}],
     "transports": {
       "docker": {
         "docker.io/library": [{"type": "insecureAcceptAnything"}],
         "registry.test/team": [{"type": "sigstoreSigned", "keyPath": "/etc/boxship/team.pub",
                                 "signedIdentity": {"type": "matchRepository"}}]},
       "docker-archive": {"": [{"type": "insecureAcceptAnything"}]}}}

Images of registries are ``docker``'s, loaded archives ``docker-archive``'s or ``oci-archive``'s, imported root file systems
``tarball``'s. Sections of other transports are checked like the rest, and never apply, as nothing comes in that way. What the
format has and Boxship hasn't is refused by name: a requirement that was left out would be a policy that isn't kept.
Source: containers/image docs/containers-policy.json.5.md, signature/policy_config.go and policy_config_sigstore.go.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

from boxshipd.errors import InvalidParameter
from boxshipd.images.reference import Reference
from boxshipd.trust.identity import Identity, MatchRepoDigestOrExact, check_identity
from boxshipd.trust.scopes import check_scope, scopes_of
from boxshipd.trust.strict_json import StrictJSONError, decode_strictly

POLICY_LIMIT = 1 << 20
"""Bytes up to which a policy is read."""
KEY_LIMIT = 64 << 10
"""Bytes up to which a file of keys is read."""
REGISTRY = "docker"
DOCKER_ARCHIVE = "docker-archive"
OCI_ARCHIVE = "oci-archive"
TARBALL = "tarball"
_ARCHIVES = frozenset({DOCKER_ARCHIVE, OCI_ARCHIVE, TARBALL})
_OTHERS = frozenset({"atomic", "containers-storage", "dir", "docker-daemon", "oci", "ostree", "sif"})


class Accept(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="insecureAcceptAnything"):
    """Whatever it is comes in."""


class Reject(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="reject"):
    """Nothing comes in."""


class SigstoreSigned(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="sigstoreSigned", rename="camel", kw_only=True
):
    """It must be signed with one of these keys, as an image of this name. ``…_data`` are keys in base64."""

    key_path: str | UnsetType = UNSET
    key_paths: tuple[str, ...] | UnsetType = UNSET
    key_data: str | UnsetType = UNSET
    key_datas: tuple[str, ...] | UnsetType = UNSET
    signed_identity: Identity = MatchRepoDigestOrExact()
    # There to be refused by name.
    fulcio: object = UNSET
    pki: object = UNSET
    rekor_public_key_path: object = UNSET
    rekor_public_key_paths: object = UNSET
    rekor_public_key_data: object = UNSET
    rekor_public_key_datas: object = UNSET


class SignedBy(Struct, frozen=True, tag_field="type", tag="signedBy"):
    """It must be signed with a GPG key; refused by name."""


class SignedBaseLayer(Struct, frozen=True, tag_field="type", tag="signedBaseLayer"):
    """Its lowest layer must be signed; refused by name."""


_Requirement = Accept | Reject | SigstoreSigned | SignedBy | SignedBaseLayer
_Requirements = tuple[_Requirement, ...]


class _PolicyFile(Struct, frozen=True, forbid_unknown_fields=True):
    default: _Requirements
    transports: dict[str, dict[str, _Requirements]] = {}


class KeySource(Struct, frozen=True):
    """Keys in PEM form, and the file or the part of the policy they are from."""

    where: str
    data: bytes


class SignedWith(Struct, frozen=True):
    """A requirement of signatures, with the files of its keys read. Any of the keys will do."""

    keys: tuple[KeySource, ...]
    identity: Identity


Requirement = Accept | Reject | SignedWith


class Rule(Struct, frozen=True):
    """What holds for a scope: all of it must be fulfilled.

    Attributes:
        where: the part of the policy this is, for messages.
    """

    where: str
    requirements: tuple[Requirement, ...]

    @property
    def rejects(self) -> bool:
        """Whether nothing can fulfil it."""
        return any(isinstance(requirement, Reject) for requirement in self.requirements)

    @property
    def signatures(self) -> tuple[SignedWith, ...]:
        """The signatures that are required."""
        return tuple(requirement for requirement in self.requirements if isinstance(requirement, SignedWith))


class Policy(Struct, frozen=True):
    """A policy that was read and found right.

    Attributes:
        path: the file it is from.
        default: what holds where nothing else does.
        transports: by transport and scope, what holds there.
    """

    path: str
    default: Rule
    transports: dict[str, dict[str, Rule]]

    @property
    def rules(self) -> Iterable[Rule]:
        """All of them."""
        yield self.default
        for scopes in self.transports.values():
            yield from scopes.values()

    def rule_for(self, name: Reference) -> Rule:
        """The rule for an image of a registry: that of the most specific scope it is in."""
        scopes = self.transports.get(REGISTRY, {})
        for scope in scopes_of(name):
            if scope in scopes:
                return scopes[scope]
        return scopes.get("", self.default)

    def rule_for_archive(self, transport: str) -> Rule:
        """The rule for what comes in as an archive."""
        return self.transports.get(transport, {}).get("", self.default)


def read_policy(path: str) -> Policy:
    """Read a policy and the files of keys it names; what the keys are is looked at elsewhere.

    Raises:
        InvalidParameter: the file can't be read, or isn't a policy that can be kept to the letter.
    """
    try:
        file = decode_strictly(_PolicyFile, _read(path, POLICY_LIMIT))
        default = _rule("default", file.default)
        transports = {
            transport: {scope: _scoped_rule(transport, scope, requirements) for scope, requirements in scopes.items()}
            for transport, scopes in file.transports.items()
            if _is_transport(transport)
        }
    except (StrictJSONError, InvalidParameter) as error:
        raise InvalidParameter(f"signature policy {path}: {error}") from error
    return Policy(path, default, transports)


def _is_transport(transport: str) -> bool:
    if transport != REGISTRY and transport not in _ARCHIVES and transport not in _OTHERS:
        raise InvalidParameter(f"unknown transport {transport!r}")
    return True


def _scoped_rule(transport: str, scope: str, requirements: _Requirements) -> Rule:
    where = f"{transport}:{scope}"
    if transport == REGISTRY and scope:
        check_scope(scope)
    if transport in _ARCHIVES:
        if scope:
            raise InvalidParameter(f"{where}: {transport} has no scopes here but the empty one, which is for all of it")
        if any(isinstance(requirement, SigstoreSigned) for requirement in requirements):
            raise InvalidParameter(f"{where}: an archive has no signatures to verify; only accepting or rejecting is possible")
    return _rule(where, requirements)


def _rule(where: str, requirements: _Requirements) -> Rule:
    if not requirements:
        raise InvalidParameter(f'{where}: no requirement at all; accepting anything is {{"type": "insecureAcceptAnything"}}')
    try:
        return Rule(where, tuple(_ready(requirement) for requirement in requirements))
    except InvalidParameter as error:
        raise InvalidParameter(f"{where}: {error}") from error


def _ready(requirement: _Requirement) -> Requirement:
    match requirement:
        case Accept() | Reject():
            return requirement
        case SignedBy():
            raise InvalidParameter("signedBy: GPG signatures are not available in Boxship (only sigstoreSigned)")
        case SignedBaseLayer():
            raise InvalidParameter("signedBaseLayer is not available in Boxship (only sigstoreSigned)")
    for field in ("fulcio", "pki", *(f"rekor_public_key_{kind}" for kind in ("path", "paths", "data", "datas"))):
        if getattr(requirement, field) is not UNSET:
            raise InvalidParameter(
                f"sigstoreSigned: {field.split('_')[0]} is not available in Boxship: only public keys are, without a log"
            )
    check_identity(requirement.signed_identity)
    return SignedWith(_keys(requirement), requirement.signed_identity)


def _keys(requirement: SigstoreSigned) -> tuple[KeySource, ...]:
    sources = {
        "keyPath": requirement.key_path,
        "keyPaths": requirement.key_paths,
        "keyData": requirement.key_data,
        "keyDatas": requirement.key_datas,
    }
    given = [(name, value) for name, value in sources.items() if not isinstance(value, UnsetType)]
    if len(given) != 1:
        raise InvalidParameter(f"sigstoreSigned: exactly one of {', '.join(sources)} must be there")
    name, value = given[0]
    values = (value,) if isinstance(value, str) else value
    if not values:
        raise InvalidParameter(f"sigstoreSigned: {name} is empty")
    if name.startswith("keyPath"):
        return tuple(KeySource(path, _read_key(path)) for path in values)
    return tuple(KeySource(name, _decoded(name, text)) for text in values)


def _read_key(path: str) -> bytes:
    if not os.path.isabs(path):
        raise InvalidParameter(f"key {path!r}: the path must be absolute")
    return _read(path, KEY_LIMIT)


def _decoded(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise InvalidParameter(f"sigstoreSigned: {name} isn't base64: {error}") from error


def _read(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidParameter(f"reading {path} failed: {error.strerror}") from error
    if len(data) > limit:
        raise InvalidParameter(f"{path} has more than {limit} bytes")
    return data
