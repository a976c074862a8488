"""How long a registry may take, and how often and after what time it is asked again.

Source: RFC 9110, section 10.2.3 (``Retry-After``).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from msgspec import Struct

from boxshipd.registry.errors import RegistryBusy, RegistryError, Unreachable

T = TypeVar("T")
Tell = Callable[[str], object]
"""Told what is waited for, as Docker says it."""


class Timing(Struct, frozen=True, kw_only=True):
    """Durations in seconds.

    Attributes:
        connect: for a connection to be there.
        stall: without a byte, until a transfer counts as stalled.
        first_delay: before the second attempt; it doubles with each further one.
        longest_delay: that an attempt is ever put off, but for what the registry itself asks for.
        patience: the longest time that a registry may ask us to wait.
        attempts: at one request, in all.
    """

    connect: float = 30.0
    stall: float = 30.0
    first_delay: float = 0.5
    longest_delay: float = 20.0
    patience: float = 120.0
    attempts: int = 5

    def delay(self, attempt: int, asked: float | None = None) -> float:
        """How long to wait after attempt number ``attempt``; somewhat random, so that not everybody comes back at once."""
        usual = min(self.first_delay * 2.0 ** min(attempt - 1, 16), self.longest_delay)
        return max(usual * random.uniform(0.8, 1.2), asked or 0.0)


async def retrying(work: Callable[[], Awaitable[T]], timing: Timing, tell: Tell | None = None) -> T:
    """Do ``work`` until it succeeds, or fails in a way, or so often, that trying again is of no use.

    Raises:
        RegistryError: what the last attempt raised.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            return await work()
        except (Unreachable, RegistryBusy) as error:
            await wait_to_retry(error, attempt, timing, tell)


async def wait_to_retry(error: RegistryError, attempt: int, timing: Timing, tell: Tell | None = None) -> None:
    """Wait as long as is due after attempt number ``attempt`` failed.

    Raises:
        RegistryError: ``error`` itself, where another attempt is of no use.
    """
    if attempt >= timing.attempts or (isinstance(error, Unreachable) and error.fatal):
        raise error
    asked = error.retry_after if isinstance(error, RegistryBusy) else None
    if asked is not None and asked > timing.patience:
        raise error
    delay = timing.delay(attempt, asked)
    if tell is None:
        await asyncio.sleep(delay)
        return
    left = delay
    while left > 0:
        seconds = math.ceil(left)
        tell(f"Retrying in {seconds} second{'' if seconds == 1 else 's'}")
        await asyncio.sleep(min(left, 1.0))
        left -= 1.0


def retry_after(text: str) -> float | None:
    """The seconds that a ``Retry-After`` header asks for; None where it says nothing sensible."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
