"""``--filter`` and ``--format``, as many commands have them."""

from __future__ import annotations

import json

from boxship.errors import InvalidValue


def check_filter(text: str) -> str:
    """A filter's form: ``name=value``; the name is the daemon's to judge.

    Raises:
        InvalidValue: it has no value.
    """
    name, equals, _ = text.partition("=")
    if not equals or not name.strip():
        raise InvalidValue("invalid filter: expected name=value" if not text else "bad format of filter (expected name=value)")
    return text


def encode_filters(filters: tuple[str, ...]) -> str | None:
    """Filters in the API's form, None for none."""
    if not filters:
        return None
    result: dict[str, dict[str, bool]] = {}
    for item in filters:
        name, _, value = item.partition("=")
        result.setdefault(name.strip().lower(), {})[value.strip()] = True
    return json.dumps(result, separators=(",", ":"))


FORMAT_HELP = "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"
FORMAT_ONE_HELP = "Format output using a custom template: 'json' or a Go template"
