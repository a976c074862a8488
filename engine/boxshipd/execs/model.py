"""An exec: what was asked for, and what became of it."""

from __future__ import annotations

import asyncio
from typing import Literal

from msgspec import Struct

Phase = Literal["created", "starting", "running", "exited"]


class ExecConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What never changes about an exec. ``console_size`` is height and width; ``detach_keys`` are Docker's notation."""

    id: str
    container: str
    command: tuple[str, ...]
    tty: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    console_size: tuple[int, int] = (0, 0)

    @property
    def text(self) -> str:
        """The command as events show it."""
        return f"{self.command[0]} {' '.join(self.command[1:])}"


class Exec:
    """An exec in memory. ``settled`` is set once its program runs or never will; ``exit_code`` is None until it has ended.

    ``lost``: it has ended, and nobody knows how, or whether its program ever ran.
    """

    __slots__ = ("config", "exit_code", "finished", "lost", "phase", "pid", "settled")

    def __init__(self, config: ExecConfig) -> None:
        self.config = config
        self.phase: Phase = "created"
        self.pid = 0
        self.exit_code: int | None = None
        self.finished = 0.0
        """When it ended, in seconds of the monotonic clock; of one that hasn't begun, when it was created."""
        self.settled = asyncio.Event()
        self.lost = False

    @property
    def id(self) -> str:
        """Its 64 hex digits."""
        return self.config.id
