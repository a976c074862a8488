"""A build as its progress tells it: steps, what they print, how far they are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from msgspec.structs import replace

from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex, BuildWarning

KEPT_LINES = 200
"""Lines of a step's output that are kept, to be shown where it fails."""
_LONGEST = 64 << 10
"""Bytes that are waited for before a line is shown without its end."""


@dataclass(slots=True)
class Step:
    """One step.

    Attributes:
        number: its place in the order in which steps were first heard of to have begun, from 1; 0 before.
        vertex: what is known of it.
        parts: its parts under way or done, by name.
        lines: the last lines it printed, each with when it did, in ns since the epoch.
        rest: what it printed behind the last line's end.
    """

    vertex: BuildVertex
    number: int = 0
    parts: dict[str, BuildStatus] = field(default_factory=dict)
    lines: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    rest: bytes = b""

    @property
    def begun(self) -> bool:
        """Whether it has begun."""
        return bool(self.vertex.started)

    @property
    def done(self) -> bool:
        """Whether it has ended, one way or the other."""
        return bool(self.vertex.completed)

    def seconds(self, now: int) -> float:
        """How long it has taken until ``now`` (ns since the epoch), or took."""
        if not self.vertex.started:
            return 0.0
        return max(0, (self.vertex.completed or now) - self.vertex.started) / 1e9


class BuildState:
    """All of a build.

    Attributes:
        steps: by digest, in the order in which they were announced.
        warnings: advice about the Dockerfile, each once.
    """

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.warnings: list[BuildWarning] = []
        self._numbered = 0

    def apply(self, progress: BuildProgress) -> list[tuple[Step, tuple[str, ...]]]:
        """Take in what has happened; the steps that printed whole lines, with these."""
        for vertex in progress.vertices:
            self._vertex(vertex)
        for status in progress.statuses:
            if step := self.steps.get(status.vertex):
                step.parts[status.id] = replace(status, id=printable(status.id))
        for warning in progress.warnings:
            told = replace(warning, message=printable(warning.message))
            if told not in self.warnings:
                self.warnings.append(told)
        return [(step, lines) for log in progress.logs if (step := self.steps.get(log.vertex)) and (lines := _lines(step, log))]

    def _vertex(self, vertex: BuildVertex) -> None:
        # Names are the Dockerfile's text, which has no say in what the terminal does.
        vertex = replace(vertex, name=printable(vertex.name), error=printable(vertex.error, lines=True))
        step = self.steps.get(vertex.digest)
        if step is None:
            step = self.steps[vertex.digest] = Step(vertex)
        step.vertex = vertex
        if vertex.started and not step.number:
            self._numbered += 1
            step.number = self._numbered

    @property
    def counts(self) -> tuple[int, int]:
        """How many steps are done, and how many there are."""
        return sum(step.done for step in self.steps.values()), len(self.steps)


def remainder(step: Step) -> tuple[str, ...]:
    """What a step printed last without ending the line; it is told once."""
    rest, step.rest = step.rest, b""
    text = shown(rest)
    if text:
        step.lines.append((0, text))
    return (text,) if text else ()


def _lines(step: Step, log: BuildLog) -> tuple[str, ...]:
    *whole, step.rest = (step.rest + log.data).split(b"\n")
    if len(step.rest) > _LONGEST:
        whole.append(step.rest)
        step.rest = b""
    lines = tuple(shown(line) for line in whole)
    step.lines.extend((log.timestamp, line) for line in lines)
    return lines


def shown(line: bytes) -> str:
    """A line of a program's output as it would stand after it was printed: what a carriage return overwrote is gone, and so is
    everything that would do more to a terminal than print."""
    text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace").expandtabs(8)
    return "".join(character for character in _without_sequences(text) if character.isprintable())


def printable(text: str, *, lines: bool = False) -> str:
    """Text that somebody else wrote, without what would do more to a terminal than print.

    Args:
        text: it.
        lines: whether it may have several; else their ends become blanks.
    """
    if text.isprintable():
        return text
    kept = _without_sequences(text).expandtabs(8) if lines else " ".join(_without_sequences(text).split("\n"))
    return "".join(character for character in kept if character.isprintable() or (lines and character == "\n"))


def _without_sequences(text: str) -> str:
    if "\x1b" not in text:
        return text
    import re

    return re.sub(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)", "", text)
