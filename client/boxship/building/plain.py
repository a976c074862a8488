"""A build's progress as lines, for files, pipes and logs. Source: BuildKit util/progress/progressui/printer.go."""

from __future__ import annotations

import time
from collections.abc import Callable

from boxship.building.state import BuildState, Step, printable, remainder
from boxship.types.build import BuildProgress
from boxship.units import human_size

Write = Callable[[str], None]


class PlainView:
    """Shows each step under its number, as things happen.

    Args:
        state: the build.
        write: writes text.
    """

    def __init__(self, state: BuildState, write: Write) -> None:
        self._state = state
        self._write = write
        self._named: set[int] = set()
        self._finished: set[str] = set()
        self._parts_done: set[tuple[str, str]] = set()
        self._current = 0

    def apply(self, progress: BuildProgress) -> None:
        """Show what has happened."""
        out: list[str] = []
        printed = self._state.apply(progress)
        for vertex in progress.vertices:
            self._name(self._state.steps[vertex.digest], out)
        for status in progress.statuses:
            step = self._state.steps.get(status.vertex)
            if step is not None and status.completed and (status.vertex, status.id) not in self._parts_done:
                self._parts_done.add((status.vertex, status.id))
                size = f" {human_size(status.current or status.total, 3)}" if status.current or status.total else ""
                took = f" {(status.completed - status.started) / 1e9:.1f}s" if status.started else ""
                self._line(step, f"{printable(status.id)}{size}{took} done", out)
        for step, lines in printed:
            for line in lines:
                self._line(step, f"{max(0, time.time_ns() - step.vertex.started) / 1e9:.3f} {line}", out)
        for vertex in progress.vertices:
            self._finish(self._state.steps[vertex.digest], out)
        if out:
            self._write("".join(out))

    def tick(self) -> None:
        """Nothing changes with time alone."""

    def close(self) -> None:
        """Nothing is left to be shown."""

    def _name(self, step: Step, out: list[str]) -> None:
        if step.begun and step.number not in self._named:
            self._line(step, step.vertex.name, out)
            self._named.add(step.number)

    def _finish(self, step: Step, out: list[str]) -> None:
        vertex = step.vertex
        if not step.done or vertex.digest in self._finished:
            return
        for line in remainder(step):
            self._line(step, f"{step.seconds(0):.3f} {line}", out)
        if vertex.error:
            self._line(step, f"ERROR: {vertex.error}", out)
        elif vertex.cached:
            self._line(step, "CACHED", out)
        else:
            self._line(step, f"DONE {step.seconds(0):.1f}s", out)
        out.append("\n")
        self._finished.add(vertex.digest)
        self._current = 0

    def _line(self, step: Step, text: str, out: list[str]) -> None:
        """One line of a step. Where another step's lines stand above that isn't done, this one's are set off from them."""
        if self._current not in (0, step.number):
            out.append("\n")
        if self._current != step.number and step.number in self._named:
            out.append(f"#{step.number} ...\n")
        self._current = step.number
        out.append(f"#{step.number} {text}\n")
