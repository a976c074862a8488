"""Names of images, in Docker's grammar: the client's parser, with what only a daemon asks of a name.

``busybox`` is short for ``docker.io/library/busybox:latest``; what users are shown is always the short form.
Source: github.com/distribution/reference (regexp.go, reference.go, normalize.go), whose rules and messages these are.
"""

from __future__ import annotations

import re

from boxship import references
from boxship.errors import InvalidReference
from boxship.references import DEFAULT_DOMAIN, DEFAULT_TAG, Reference

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import parse_digest

__all__ = ["DEFAULT_DOMAIN", "DEFAULT_TAG", "Reference", "is_identifier", "parse", "with_tag"]

# No name within the limits of its parts is longer; the expressions never see more.
_TEXT_LIMIT = 4096
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


def parse(text: str) -> Reference:
    """Parse a name as users write it.

    Raises:
        InvalidParameter: with Docker's message.
    """
    if len(text) > _TEXT_LIMIT:
        raise InvalidParameter("invalid reference format")
    try:
        parsed = references.parse(text)
    except InvalidReference as error:
        raise InvalidParameter(str(error)) from error
    if parsed.digest:
        parse_digest(parsed.digest)
    return parsed


def with_tag(name: Reference, tag: str) -> Reference:
    """The repository of a name under another tag.

    Raises:
        InvalidParameter: ``tag`` isn't a tag.
    """
    if not references.is_tag(tag):
        raise InvalidParameter("invalid tag format")
    return Reference(name.domain, name.path, tag)


def is_identifier(text: str) -> bool:
    """Whether ``text`` can only be an image's id: 64 hexadecimal digits."""
    return _IDENTIFIER.fullmatch(text) is not None
