"""Objects by their names: fetched one by one, and printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from boxship.cli.command import Context
from boxship.cli.filters import template_of
from boxship.errors import APIError, CommandError, TemplateError
from boxship.terminal.govalues import to_json


def show(context: Context, template: str, names: list[str], fetch: Callable[[str], Any]) -> int:
    """Fetch objects and print them; failures come after what was found.

    Args:
        context: where to print.
        template: a Go template, ``json``, or empty for indented JSON.
        names: what to fetch.
        fetch: fetches one.

    Returns:
        0, or 1 where one was not found.

    Raises:
        CommandError: the template can't be parsed (status 64, before anything is fetched).
    """
    layout = template_of(template)
    found: list[Any] = []
    failures: list[str] = []
    for name in names:
        try:
            found.append(fetch(name))
        except APIError as error:
            failures.append(f"Error response from daemon: {error}")
        except CommandError as error:
            failures.append(str(error))
    if layout is not None:
        lines: list[str] = []
        for item in found:
            try:
                lines.append(layout.execute(item))
            except TemplateError as error:
                failures.append(f"template parsing error: {error}")
        context.print("\n".join(lines))
    else:
        context.print(to_json(found) if template == "json" else json.dumps(found, indent=4, ensure_ascii=False))
    for failure in failures:
        context.warn(failure)
    return int(bool(failures))
