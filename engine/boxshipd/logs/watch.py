"""Waiting until a log file grows or is rotated: by the kernel's notification.

One inotify instance serves every follower of an event loop, and goes with the last of them; the kernel allows few instances
(128 for a user by default) but many watches. Where others have used either up, followers look ten times a second.
Source: inotify(7).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EMFILE, ENOSPC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncinotify import Watch

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
_USED_UP = frozenset({EMFILE, ENOSPC})


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


class PollingWatcher:
    """Wakes followers now and then, whether something has changed or not: for when the kernel has no notifications left."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []
        self._task = asyncio.get_running_loop().create_task(self._serve(), name="log poller")

    @property
    def idle(self) -> bool:
        """Whether nobody watches anything."""
        return not self._events

    def add(self, directory: str, event: asyncio.Event) -> None:
        """Set ``event`` ten times a second.

        Raises:
            OSError: the directory is gone.
        """
        os.stat(directory)
        self._events.append(event)

    def remove(self, directory: str, event: asyncio.Event) -> None:
        """Forget ``event``."""
        self._events.remove(event)

    async def _serve(self) -> None:
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            for event in self._events:
                event.set()

    def close(self) -> None:
        """Stop."""
        self._task.cancel()


Watcher = LogWatcher | PollingWatcher

_watchers: dict[tuple[asyncio.AbstractEventLoop, type[Watcher]], Watcher] = {}


@contextmanager
def changes(path: str) -> Iterator[asyncio.Event]:
    """An event that is set whenever something changes in the directory of ``path``, for as long as the context lives.

    Raises:
        OSError: the directory is gone.
    """
    loop = asyncio.get_running_loop()
    directory, event = os.path.dirname(path), asyncio.Event()
    kind: type[Watcher] = LogWatcher
    try:
        _watch(loop, kind, directory, event)
    except OSError as error:
        if error.errno not in _USED_UP:
            raise
        log.warning("follow logs in %s: %s: looking ten times a second instead", directory, error.strerror)
        kind = PollingWatcher
        _watch(loop, kind, directory, event)
    try:
        yield event
    finally:
        _watchers[loop, kind].remove(directory, event)
        _end_idle(loop, kind)


def _watch(loop: asyncio.AbstractEventLoop, kind: type[Watcher], directory: str, event: asyncio.Event) -> None:
    if (loop, kind) not in _watchers:
        _watchers[loop, kind] = kind()
    try:
        _watchers[loop, kind].add(directory, event)
    except OSError:
        _end_idle(loop, kind)
        raise


def _end_idle(loop: asyncio.AbstractEventLoop, kind: type[Watcher]) -> None:
    if _watchers[loop, kind].idle:
        _watchers.pop((loop, kind)).close()
