"""Timers: one thing to be done later for each key, which can be called off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """At most one pending timer for a key. Belongs to the running event loop."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, key: str, delay: float, action: Callable[[], None]) -> None:
        """Do ``action`` in ``delay`` seconds, in place of what was to be done for ``key``."""
        self.cancel(key)
        self._handles[key] = asyncio.get_running_loop().call_later(delay, self._fire, key, action)

    def cancel(self, key: str) -> bool:
        """Call the key's timer off; whether there was one."""
        handle = self._handles.pop(key, None)
        if handle is None:
            return False
        handle.cancel()
        return True

    def pending(self) -> tuple[str, ...]:
        """The keys that have a timer."""
        return tuple(self._handles)

    def close(self) -> None:
        """Call all timers off."""
        for key in self.pending():
            self.cancel(key)

    def _fire(self, key: str, action: Callable[[], None]) -> None:
        del self._handles[key]
        action()
