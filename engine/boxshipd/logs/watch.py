"""Waiting until a log file grows or is rotated: by the kernel's notification, never by polling.

One inotify instance serves every follower of an event loop, and goes with the last of them; the kernel allows few instances
(128 by default) but many watches.
Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncinotify import Watch


class LogWatcher:
    """Tells followers of changes in the directories their logs are in. Belongs to one event loop."""

    def __init__(self) -> None:
        # Its import looks for the C library by running programs, which is nothing for a daemon's start.
        from asyncinotify import Inotify, Mask

        self._mask = Mask
        self._inotify = Inotify()
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="log watcher")
        self._watches: dict[str, tuple[Watch, list[asyncio.Event]]] = {}

    @property
    def idle(self) -> bool:
        """Whether nobody watches anything."""
        return not self._watches

    def add(self, directory: str, event: asyncio.Event) -> None:
        """Set ``event`` whenever something changes in ``directory``.

        Raises:
            OSError: the directory is gone or the kernel's limit of watches is reached.
        """
        if directory not in self._watches:
            mask = self._mask.MODIFY | self._mask.CREATE | self._mask.MOVE
            self._watches[directory] = (self._inotify.add_watch(directory, mask), [])
        self._watches[directory][1].append(event)

    def remove(self, directory: str, event: asyncio.Event) -> None:
        """Forget ``event``."""
        watch, events = self._watches[directory]
        events.remove(event)
        if not events:
            del self._watches[directory]
            # Where the directory went first, the kernel has dropped the watch with it.
            with suppress(OSError, KeyError):
                self._inotify.rm_watch(watch)

    async def _serve(self) -> None:
        try:
            async for change in self._inotify:
                if change.mask & self._mask.Q_OVERFLOW or change.watch is None:
                    touched = [event for _, events in self._watches.values() for event in events]
                else:
                    touched = self._watches.get(str(change.watch.path), (None, []))[1]
                for event in touched:
                    event.set()
        finally:
            # Here and not in close(): the loop must have forgotten the descriptor before its number can be another's.
            self._inotify.close()

    def close(self) -> None:
        """Stop serving."""
        self._task.cancel()


_watchers: dict[asyncio.AbstractEventLoop, LogWatcher] = {}


@contextmanager
def changes(path: str) -> Iterator[asyncio.Event]:
    """An event that is set whenever something changes in the directory of ``path``, for as long as the context lives.

    Raises:
        OSError: the directory is gone or the kernel's limit of watches is reached.
    """
    loop = asyncio.get_running_loop()
    watcher = _watchers.get(loop) or _watchers.setdefault(loop, LogWatcher())
    directory, event = os.path.dirname(path), asyncio.Event()
    try:
        watcher.add(directory, event)
    except OSError:
        if watcher.idle:
            _watchers.pop(loop).close()
        raise
    try:
        yield event
    finally:
        watcher.remove(directory, event)
        if watcher.idle:
            _watchers.pop(loop).close()
