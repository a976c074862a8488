"""``boxship export``, ``diff`` and ``commit``."""

from __future__ import annotations

import os

from boxship.archive.whole import write_file
from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Items, Options, Switch, Text
from boxship.cli.references import repository_tag
from boxship.errors import CommandError
from boxship.http.target import quote

_KINDS = ("C", "A", "D")


class ExportOptions(Options):
    """The flags of ``export``."""

    output = Text("Write to a file, instead of STDOUT", short="o")


def _export(context: Context, options: ExportOptions, arguments: list[str]) -> int:
    if not options.output and os.isatty(1):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with context.api.open("GET", f"/containers/{quote(arguments[0])}/export") as response:
        if options.output:
            write_file(options.output, response.chunks(), "failed to export container")
        else:
            for chunk in response.chunks():
                write_all(1, chunk)
    return 0


class DiffOptions(Options):
    """``diff`` has no flags."""


def _diff(context: Context, _options: DiffOptions, arguments: list[str]) -> int:
    if not arguments[0]:
        raise CommandError("Container name cannot be empty")
    for change in context.api.call("GET", f"/containers/{quote(arguments[0])}/changes") or ():
        context.print(f"{_KINDS[change['Kind']]} {change['Path']}")
    return 0


class CommitOptions(Options):
    """The flags of ``commit``."""

    author = Text('Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")', short="a")
    change = Items("Apply Dockerfile instruction to the created image", short="c")
    message = Text("Commit message", short="m")
    pause = Switch("Pause container during commit", short="p", default=True, shown="true")


def _commit(context: Context, options: CommitOptions, arguments: list[str]) -> int:
    name, tag = repository_tag(arguments[1]) if len(arguments) > 1 else ("", "")
    query = {
        "container": arguments[0],
        "repo": name or None,
        "tag": tag or None,
        "comment": options.message or None,
        "author": options.author or None,
        "changes": list(options.change),
        "pause": None if options.pause else "0",
    }
    context.print(context.api.call("POST", "/commit", query)["Id"])
    return 0


EXPORT: Command[ExportOptions] = Command(
    "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive", ExportOptions, _export, minimum=1, maximum=1
)
DIFF: Command[DiffOptions] = Command(
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    DiffOptions,
    _diff,
    minimum=1,
    maximum=1,
)
COMMIT: Command[CommitOptions] = Command(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    CommitOptions,
    _commit,
    minimum=1,
    maximum=2,
)
