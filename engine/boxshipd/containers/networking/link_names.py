"""Links as text: ``container:alias``, and the name ``/container/alias`` that the linked one has by it.

Source: moby opts/parse.go (ParseLink), daemon/delete.go (rmLink).
"""

from __future__ import annotations

from collections.abc import Iterable

from boxshipd.errors import InvalidParameter


def parse_link(text: str) -> tuple[str, str]:
    """A link's container and alias.

    Raises:
        InvalidParameter: it is none.
    """
    parts = text.split(":")
    if not text or len(parts) > 2:
        raise InvalidParameter(f"bad format for links: {text}" if text else "empty string specified for links")
    # Docker's own form in a stored configuration: /name:/parent/alias.
    alias = parts[1].rpartition("/")[2] if len(parts) == 2 else parts[0]
    return parts[0].removeprefix("/"), alias.removeprefix("/")


def split_name(ref: str) -> tuple[str, str]:
    """The container that is linked, and its alias for the other: both empty where ``ref`` isn't the name of a link."""
    parent, slash, alias = ref.removeprefix("/").rpartition("/")
    return (parent, alias) if slash else ("", "")


def linked(links: Iterable[str], alias: str) -> str:
    """Whom ``alias`` means, by name or id; empty for nobody."""
    return next((name for name, other in map(parse_link, links) if other == alias), "")
