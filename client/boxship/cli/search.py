"""``boxship search``."""

from __future__ import annotations

from typing import Any

from boxship.cli.accounts import registry_header
from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, check_filter, encode_filters
from boxship.cli.flags import Integer, Items, Options, Switch, Text
from boxship.references import DEFAULT_DOMAIN
from boxship.terminal.table import ellipsis, render

TITLES = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}
_COLUMNS = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}"


class SearchOptions(Options):
    """The flags of ``search``."""

    filter = Items("Filter output based on conditions provided", short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_HELP)
    limit = Integer("Max number of search results")
    no_trunc = Switch("Don't truncate output")


def row(result: dict[str, Any], *, truncate: bool, as_json: bool) -> dict[str, Any]:
    """A result's values by column.

    Args:
        result: an item of ImageSearch's answer.
        truncate: whether to shorten descriptions.
        as_json: whether it is for a program, which gets words instead of marks.
    """
    description = str(result.get("description") or "").replace("\n", " ").replace("\r", " ")
    official = bool(result.get("is_official"))
    return {
        "Name": str(result.get("name") or ""),
        "Description": ellipsis(description, 45) if truncate else description,
        "StarCount": str(result.get("star_count") or 0),
        "IsOfficial": str(official).lower() if as_json else "[OK]" if official else "",
    }


def _domain(term: str) -> str:
    """The registry that a term is searched in."""
    head, slash, _ = term.partition("/")
    return head if slash and ("." in head or ":" in head or head == "localhost") else DEFAULT_DOMAIN


def _run(context: Context, options: SearchOptions, arguments: list[str]) -> int:
    query = {"term": arguments[0], "limit": options.limit or None, "filters": encode_filters(options.filter)}
    headers = [registry_header(context, _domain(arguments[0]))]
    with context.api.open("GET", "/images/search", query, headers=headers) as response:
        import json

        results: list[dict[str, Any]] = json.loads(response.read()) or []
    as_json = options.format == "json" or "json" in options.format
    rows = [row(result, truncate=not options.no_trunc, as_json=as_json) for result in results]
    context.print(render(options.format, rows, TITLES, _COLUMNS), end="")
    return 0


SEARCH: Command[SearchOptions] = Command(
    "[OPTIONS] TERM", "Search Docker Hub for images", SearchOptions, _run, minimum=1, maximum=1
)
