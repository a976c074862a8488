"""What shows a build, and has it told that time goes by."""

from __future__ import annotations

import threading
from typing import Protocol

from boxship.types.build import BuildProgress

_TICK = 0.1


class View(Protocol):
    """Shows a build."""

    def apply(self, progress: BuildProgress) -> None:
        """Show what has happened."""

    def tick(self) -> None:
        """Show that time has gone by."""

    def close(self) -> None:
        """Leave the end of it where it is."""


class Ticking:
    """A view that is also told, by a thread, that time goes by."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="build-timers", daemon=True)

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def apply(self, progress: BuildProgress) -> None:
        """Show what has happened."""
        with self._lock:
            self._view.apply(progress)

    def tick(self) -> None:
        """Show that time has gone by."""
        with self._lock:
            if not self._closed:
                self._view.tick()

    def close(self) -> None:
        """Leave the end of it where it is."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._view.close()

    def _run(self) -> None:
        while not self._ended.wait(_TICK):
            self.tick()
