"""Volumes' names. Source: moby volume/local (validateName)."""

from __future__ import annotations

import re
import secrets

from boxshipd.errors import InvalidParameter

_ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(_ALLOWED + r"+\Z", re.ASCII)
_LONGEST = 255


def validate_name(name: str) -> str:
    """The name, if a volume can have it.

    Raises:
        InvalidParameter: it can't, with Docker's message.
    """
    if len(name) == 1:
        reason = "volume name is too short, names should be at least two alphanumeric characters"
        raise InvalidParameter(f"create {name}: {reason}")
    if not _NAME.match(name):
        reason = (
            f'"{name}" includes invalid characters for a local volume name, only "{_ALLOWED}" are allowed. '
            "If you intended to pass a host directory, use absolute path"
        )
        raise InvalidParameter(f"create {name}: {reason}")
    if len(name) > _LONGEST:
        raise InvalidParameter(f"create {name}: volume name is too long, at most {_LONGEST} characters are possible")
    return name


def make_name() -> str:
    """A name for a volume that wasn't given one: 64 hex digits."""
    return secrets.token_hex(32)
