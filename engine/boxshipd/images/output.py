"""What a pull or a push tells its clients: Docker's progress stream, word for word.

Source: moby pkg/streamformatter, pkg/jsonmessage (``JSONProgress.String``), pkg/progress.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Any

from boxship.types.images import ProgressDetail, ProgressMessage
from msgspec import UNSET

_INTERVAL = 0.1
_BAR = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Output:
    """A stream of messages for any number of followers, who each get all of it, whenever they begin.

    Of a step's progress, followers who are slow get the latest only. To be used on the event loop.
    """

    def __init__(self) -> None:
        # By a number that grows: the newest progress of a step takes the place of the one before it.
        self._messages: dict[int, ProgressMessage] = {}
        self._numbers = itertools.count()
        self._newest: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._ended = False
        self._due: dict[str, float] = {}
        self._started: dict[str, float] = {}

    def message(self, text: str, subject: str = "") -> None:
        """Say something, about ``subject`` if that is given."""
        self._add(ProgressMessage(status=text, id=subject) if subject else ProgressMessage(status=text))

    def update(self, subject: str, action: str) -> None:
        """A step of ``subject`` has begun or ended."""
        self._add(ProgressMessage(status=action, id=subject, progress_detail=ProgressDetail()))

    def progress(self, subject: str, action: str, current: int, total: int) -> None:
        """A step has come so far, in bytes. At most ten times a second, and at its end, followers are told."""
        now = time.monotonic()
        step = f"{subject} {action}"
        started = self._started.setdefault(step, now)
        if now < self._due.get(step, 0) and current < total:
            return
        self._due[step] = now + _INTERVAL
        shown = ProgressMessage(
            status=action,
            id=subject or UNSET,
            progress=bar(current, total, now - started),
            progress_detail=ProgressDetail(current=current, total=total),
        )
        self._add(shown, step)

    def pass_on(self, message: ProgressMessage) -> None:
        """Tell what somebody else has put into words."""
        self._add(message)

    def aux(self, value: Any) -> None:
        """Something for programs."""
        self._add(ProgressMessage(progress_detail=ProgressDetail(), aux=value))

    def end(self) -> None:
        """There is nothing more to come."""
        self._ended = True
        self._changed.set()

    async def follow(self) -> AsyncGenerator[ProgressMessage, None]:
        """All messages from the beginning, until the end."""
        told = -1
        while True:
            changed, ended = self._changed, self._ended
            for number in [number for number in self._messages if number > told]:
                told = number
                if number in self._messages:
                    yield self._messages[number]
            if ended:
                return
            await changed.wait()

    def _add(self, message: ProgressMessage, step: str = "") -> None:
        number = next(self._numbers)
        if step:
            self._messages.pop(self._newest.get(step, -1), None)
            self._newest[step] = number
        self._messages[number] = message
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def bar(current: int, total: int, elapsed: float) -> str:
    """Docker's text for people, which clients of old APIs show as it is."""
    if current <= 0 and total <= 0:
        return ""
    if total <= 0 or current > total:
        return f"{size(current):>8}"
    filled = min(int(current / total * 100) // 2, _BAR)
    head = "" if filled == _BAR else ">"
    shown = f"[{'=' * filled}{head}{' ' * (_BAR - filled - len(head))}] {size(current):>8}/{size(total)}"
    if not 0 < current < total:
        return shown
    return f"{shown} {_duration(elapsed / current * (total - current))}"


def size(count: float) -> str:
    """A number of bytes in Docker's notation: four digits and a decimal unit."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.4g}{_UNITS[unit]}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return "".join((f"{hours}h" if hours else "", f"{minutes}m" if hours or minutes else "", f"{rest}s"))
