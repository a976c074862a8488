"""Sandboxes of ended containers, until they are closed: some at a time, and out of the way of what starts.

Their addresses and ports are free already. What the kernel does with a namespace that nobody holds any more (it waits until
nobody can look at it, with the lock of all network devices in its hand) it does with many in the time of one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from boxrun.network.boxes import Box

_PAUSE: Final = 0.5
"""Seconds for which those that may follow are waited for."""
_MOST: Final = 32
"""So many are not waited with any longer."""


class Graveyard:
    """Closes sandboxes."""

    def __init__(self) -> None:
        self._boxes: list[Box] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, box: Box) -> None:
        """Have a sandbox closed, which is the graveyard's from now on."""
        self._boxes.append(box)
        if len(self._boxes) >= _MOST:
            self.clear()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self.clear)

    def clear(self) -> None:
        """Close all that are there."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for box in self._boxes:
            box.close()
        self._boxes.clear()
