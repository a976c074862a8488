"""Image references as registries need them: with their domain, which ``alpine`` leaves to be understood.

Source: the grammar of github.com/distribution/reference, and Docker's rules for names without a domain.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from boxship.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
_LONGEST_NAME = 255

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_HASH = re.compile(r"[a-f0-9]{64}")


class Reference(NamedTuple):
    """An image's full name.

    Attributes:
        domain: the registry: ``docker.io``, ``registry.example:5000``.
        path: the repository in it: ``library/alpine``.
        tag: empty where none was given.
        digest: empty where none was given.
    """

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository with its registry."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: without what goes without saying."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        shorter = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in shorter else shorter

    @property
    def suffix(self) -> str:
        """``:tag``, ``@digest``, both or neither."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def familiar(self) -> str:
        """The whole reference as people write it."""
        return self.familiar_name + self.suffix

    @property
    def names_nothing(self) -> bool:
        """Whether it is a repository alone, without a tag or a digest."""
        return not self.tag and not self.digest

    def tagged(self) -> Reference:
        """The same, with the tag ``latest`` where it has neither tag nor digest."""
        return self._replace(tag=DEFAULT_TAG) if self.names_nothing else self

    def __str__(self) -> str:
        return self.name + self.suffix


def parse(text: str) -> Reference:
    """Parse a reference.

    Args:
        text: ``alpine``, ``registry.example:5000/team/tool:1.2``, ``alpine@sha256:…``.

    Raises:
        InvalidReference: it isn't one; the message is Docker's.
    """
    if _HASH.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text)
    head, at, digest = rest.partition("@")
    path, colon, tag = head.partition(":")
    if path != path.lower():
        raise InvalidReference(f"invalid reference format: repository name ({path}) must be lowercase")
    fits = (
        _DOMAIN.fullmatch(domain)
        and _PATH.fullmatch(path)
        and (not colon or _TAG.fullmatch(tag))
        and (not at or _DIGEST.fullmatch(digest))
    )
    if not fits or (digest.startswith("sha256:") and len(digest) != len("sha256:") + 64):
        raise InvalidReference("invalid reference format")
    if len(path) > _LONGEST_NAME:
        raise InvalidReference(f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(domain, path, tag, digest)


def is_tag(text: str) -> bool:
    """Whether ``text`` can be a tag."""
    return _TAG.fullmatch(text) is not None


def _split_domain(text: str) -> tuple[str, str]:
    """What comes before the first slash is a registry where it looks like a host's name, and else part of the path."""
    head, slash, rest = text.partition("/")
    if not slash or not (head == "localhost" or "." in head or ":" in head or head != head.lower()):
        domain, rest = DEFAULT_DOMAIN, text
    else:
        domain = DEFAULT_DOMAIN if head == _LEGACY_DOMAIN else head
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest
