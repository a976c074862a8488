"""What a reader of logs asks for, and what it reads.

Source: Docker Engine API v1.51, ContainerLogs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from boxrun.container.spec import Log
from msgspec import Struct


class LogOptions(Struct, frozen=True, kw_only=True):
    """The query of ``ContainerLogs``. Times in ns since the epoch, 0 for no bound; ``tail`` in lines, None for all.

    Of our own: with ``positions`` the reader is told now and then where it is (see ``boxshipd.logs.cursor``), and ``after`` is
    such a place, from which it goes on; ``tail`` says nothing then.
    """

    follow: bool = False
    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    timestamps: bool = False
    tail: int | None = None
    details: bool = False
    positions: bool = False
    after: str = ""


@dataclass(frozen=True)
class LogSource:
    """A container's log.

    Attributes:
        log: the driver and its file, as the runtime was told.
        terminal: whether the container has a terminal, and so one stream without framing.
        ended: set while the container doesn't run; a follower stops at the log's end once it is set.
    """

    log: Log
    terminal: bool
    ended: asyncio.Event
