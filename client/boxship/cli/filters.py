"""``--filter`` and ``--format``, as many commands have them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from boxship.errors import CommandError, InvalidValue, TemplateError

if TYPE_CHECKING:
    from boxship.terminal.gotemplate import Template


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


def template_of(text: str) -> Template | None:
    """The template of a ``--format``, None where it is empty or ``json``.

    Raises:
        CommandError: it can't be parsed (status 64, as Docker's).
    """
    if text in ("", "json"):
        return None
    from boxship.terminal.gotemplate import Template

    try:
        return Template(text)
    except TemplateError as error:
        raise CommandError(f"template parsing error: {error}", 64) from error


FORMAT_HELP = "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template"
FORMAT_ONE_HELP = "Format output using a custom template: 'json' or a Go template"
