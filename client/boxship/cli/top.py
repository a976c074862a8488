"""``boxship top``."""

from __future__ import annotations

from boxship.cli.command import Command, Context
from boxship.cli.flags import Options
from boxship.http.target import quote
from boxship.terminal.table import align

_NARROWEST = 20


class TopOptions(Options):
    """``top`` has no flags: what follows the container is for ps."""


def _run(context: Context, _options: TopOptions, arguments: list[str]) -> int:
    name, *words = arguments
    answer = context.api.call("GET", f"/containers/{quote(name)}/top", {"ps_args": " ".join(words) or None})
    rows = [answer["Titles"], *(answer["Processes"] or ())]
    context.print(align(("\t".join(row) for row in rows), narrowest=_NARROWEST), end="")
    return 0


TOP: Command[TopOptions] = Command(
    "CONTAINER [ps OPTIONS]", "Display the running processes of a container", TopOptions, _run, minimum=1, interspersed=False
)
