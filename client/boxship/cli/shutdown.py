"""``boxship system shutdown``."""

from __future__ import annotations

from boxship.cli.command import Command, Context
from boxship.cli.flags import Options


class ShutdownOptions(Options):
    """``system shutdown`` has no flags."""


def _run(context: Context, _options: ShutdownOptions, _arguments: list[str]) -> int:
    context.api.call("POST", "/system/shutdown")
    return 0


SHUTDOWN: Command[ShutdownOptions] = Command(
    "", "Stop every container, then the daemon and all its helpers", ShutdownOptions, _run, maximum=0
)
