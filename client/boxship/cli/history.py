"""``boxship history``."""

from __future__ import annotations

import time
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP
from boxship.cli.flags import Options, Switch, Text
from boxship.http.target import quote
from boxship.terminal.table import ellipsis, render
from boxship.units import human_duration, human_size, rfc3339

TITLES = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


class HistoryOptions(Options):
    """The flags of ``history``."""

    format = Text(FORMAT_HELP)
    human = Switch("Print sizes and dates in human readable format", short="H", default=True, shown="true")
    no_trunc = Switch("Don't truncate output")
    platform = Text('Show history for the given platform. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")')
    quiet = Switch("Only show image IDs", short="q")


def row(item: dict[str, Any], *, truncate: bool, human: bool, now: float) -> dict[str, Any]:
    """A layer's values by column.

    Args:
        item: an item of ImageHistory's answer.
        truncate: whether to shorten ids and commands.
        human: whether times and sizes are in words.
        now: seconds since the epoch.
    """
    created = item.get("Created", 0)
    command = item.get("CreatedBy", "").replace("\t", " ")
    identifier: str = item["Id"]
    since = f"{human_duration(now - created)} ago" if created > 0 else "N/A"
    return {
        "ID": identifier.removeprefix("sha256:")[:12] if truncate and identifier != "<missing>" else identifier,
        "CreatedAt": rfc3339(created),
        "CreatedSince": since if human else rfc3339(created),
        "CreatedBy": ellipsis(command, 45) if truncate else command,
        "Size": human_size(item["Size"]) if human else str(item["Size"]),
        "Comment": item.get("Comment", ""),
    }


def _run(context: Context, options: HistoryOptions, arguments: list[str]) -> int:
    query = None
    if options.platform:
        from boxship.cli.platforms import encode

        query = {"platform": encode(context.api, options.platform, "1.48")}
    items = context.api.call("GET", f"/images/{quote(arguments[0], '/:@')}/history", query)
    now = time.time()
    rows = [row(item, truncate=not options.no_trunc, human=options.human, now=now) for item in items]
    if options.quiet and not options.format:
        context.print("".join(line["ID"] + "\n" for line in rows), end="")
        return 0
    columns = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    context.print(render(options.format, rows, TITLES, columns), end="")
    return 0


HISTORY: Command[HistoryOptions] = Command(
    "[OPTIONS] IMAGE", "Show the history of an image", HistoryOptions, _run, minimum=1, maximum=1
)
