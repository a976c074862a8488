"""``boxship pause`` and ``unpause``."""

from __future__ import annotations

from collections.abc import Callable

from boxship.cli.command import Command, Context
from boxship.cli.flags import Options
from boxship.cli.lifecycle import for_each
from boxship.http.target import quote


class PauseOptions(Options):
    """``pause`` and ``unpause`` have no flags."""


def _to_each(verb: str) -> Callable[[Context, PauseOptions, list[str]], int]:
    def run(context: Context, _options: PauseOptions, arguments: list[str]) -> int:
        def act(name: str) -> str:
            context.api.call("POST", f"/containers/{quote(name)}/{verb}")
            return name

        return for_each(context, arguments, act)

    return run


_MANY = "CONTAINER [CONTAINER...]"
PAUSE: Command[PauseOptions] = Command(
    _MANY, "Pause all processes within one or more containers", PauseOptions, _to_each("pause"), minimum=1
)
UNPAUSE: Command[PauseOptions] = Command(
    _MANY, "Unpause all processes within one or more containers", PauseOptions, _to_each("unpause"), minimum=1
)
