"""A build's progress at a terminal: a line for each step, with its timer, and the last lines of those that are at work."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from boxship.building.state import BuildState, Step, remainder
from boxship.types.build import BuildProgress, BuildStatus
from boxship.units import human_size

_LOG_LINES = 6
_REDRAW_NS = 80_000_000
_BLUE, _RED, _FAINT, _END = "\x1b[34m", "\x1b[31m", "\x1b[2m", "\x1b[0m"

Write = Callable[[bytes], object]
Size = Callable[[], os.terminal_size]


class LiveView:
    """Redraws the lines at the terminal's bottom; what has ended moves up where there are more than the terminal has rows.

    Args:
        state: the build.
        write: writes to the terminal.
        size: tells how large it is now.
        colours: whether to use colours (``NO_COLOR`` isn't set).
    """

    def __init__(self, state: BuildState, write: Write, size: Size, *, colours: bool = True) -> None:
        self._state = state
        self._write = write
        self._size = size
        self._colours = colours
        self._begun = time.time_ns()
        self._drawn = 0
        self._width = 0
        self._shown_at = 0

    def apply(self, progress: BuildProgress) -> None:
        """Take in what has happened; it is shown at once, but not more than a dozen times a second."""
        self._state.apply(progress)
        for vertex in progress.vertices:
            if vertex.completed:
                remainder(self._state.steps[vertex.digest])
        self.tick()

    def tick(self) -> None:
        """Show how much time has gone by."""
        now = time.time_ns()
        if now - self._shown_at >= _REDRAW_NS:
            self._draw(now, final=False)

    def close(self) -> None:
        """Leave everything as it is at the end."""
        self._draw(time.time_ns(), final=True)

    def _draw(self, now: int, *, final: bool) -> None:
        self._shown_at = now
        size = self._size()
        lines = self._lines(now, size, final=final)
        back = f"\x1b[{self._rows(size.columns)}A\r\x1b[J" if self._drawn else "\r"
        # One write, with the cursor hidden and the terminal told that it is one picture, doesn't flicker.
        text = "".join(f"{line}\n" for line in lines)
        self._write(f"\x1b[?2026h\x1b[?25l{back}{text}\x1b[?25h\x1b[?2026l".encode("utf-8", "replace"))
        self._drawn, self._width = len(lines), size.columns

    def _rows(self, columns: int) -> int:
        """The rows that are taken now: in a terminal that was made narrower each line may take several."""
        return self._drawn if columns >= self._width else self._drawn * -(-self._width // max(1, columns))

    def _lines(self, now: int, size: os.terminal_size, *, final: bool) -> list[str]:
        done, total = self._state.counts
        head = f"[+] Building {(now - self._begun) / 1e9:.1f}s ({done}/{total})"
        finished = final or (total > 0 and done == total)
        lines = [self._coloured(f"{head} FINISHED" if finished else head, "")]
        begun = [step for step in self._state.steps.values() if step.begun]
        begun.sort(key=lambda step: step.number)
        room = max(1, size.lines - 2)
        shown = [self._step(step, now, size.columns, final=final) for step in begun]
        if not final:
            # Those that have ended make room first, the oldest of them before others.
            for position, step in enumerate(begun):
                if sum(map(len, shown)) <= room:
                    break
                if step.done:
                    shown[position] = []
            flat = [line for each in shown for line in each]
            return lines + flat[-room:]
        return lines + [line for each in shown for line in each]

    def _step(self, step: Step, now: int, columns: int, *, final: bool) -> list[str]:
        vertex = step.vertex
        prefix = "CACHED " if vertex.cached else ("ERROR " if vertex.error else "")
        colour = _RED if vertex.error else (_BLUE if step.done else "")
        lines = [self._timed(f" => {prefix}{vertex.name}", step.seconds(now), columns, colour)]
        if step.done:
            return lines
        lines.extend(
            self._timed(f" => => {part.id}{_amount(part)}", _elapsed(part, now), columns, "")
            for part in step.parts.values()
            if not part.completed
        )
        if not final:
            for _, text in list(step.lines)[-_LOG_LINES:]:
                lines.append(self._coloured(f" => => # {text}"[: columns - 1], _FAINT))
        return lines

    def _timed(self, text: str, seconds: float, columns: int, colour: str) -> str:
        timer = f"{seconds:.1f}s"
        room = max(1, columns - len(timer) - 1)
        if len(text) > room - 1:
            text = text[: max(0, room - 4)] + "..."
        return self._coloured(text.ljust(room) + timer, colour)

    def _coloured(self, text: str, colour: str) -> str:
        return f"{colour}{text}{_END}" if colour and self._colours else text


def _amount(part: BuildStatus) -> str:
    if not (part.current or part.total):
        return ""
    return f" {human_size(part.current, 3)}" + (f" / {human_size(part.total, 3)}" if part.total else "")


def _elapsed(part: BuildStatus, now: int) -> float:
    return max(0, (part.completed or now) - part.started) / 1e9 if part.started else 0.0
