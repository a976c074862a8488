"""A build's progress in the words of Docker's classic builder, which clients without BuildKit show and read.

Steps run side by side, but are told one after the other, in the Dockerfile's order: what a later one prints waits until those
before it are through. Ids after ``--->`` name what a step has made; there are no images in between that one could run.

Source: moby builder/dockerfile (builder.go, dispatchers.go, internals.go), pkg/streamformatter (``StdoutWriter``,
``StderrWriter``); docker-py reads the id out of ``Successfully built``.
"""

from __future__ import annotations

import codecs
import hashlib
from collections import deque
from collections.abc import Iterator, Sequence

from boxship.types.build import BuildLog, BuildProgress, BuildStatus, BuildVertex, BuildWarning
from boxship.types.build_request import BuildResult
from boxship.types.images import ErrorDetail, ProgressDetail, ProgressMessage
from msgspec import UNSET

from boxshipd.builder.errors import StepFailed
from boxshipd.builder.graph import Graph, ImageSource
from boxshipd.builder.plan import Line, Plan
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images.digest import parse_digest
from boxshipd.images.output import bar

_STDERR = 2
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"
_SHORT = 12
_HELD_LIMIT = 16 << 20
"""Bytes of output that one build has waiting for their turn, or a quiet one holds back; beyond that the oldest goes."""
_OVERHEAD = 512
_CLIPPED = "[output clipped: too much of it had to wait]\n"


class ClassicView:
    """One build's output. Each method gives the messages that there are to be sent now.

    Args:
        quiet: of a build that succeeds, tell the image's id and nothing else.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._room = _Room()
        self._held = _Held(_Room())
        self._lines: Sequence[Line] = ()
        self._steps: dict[str, _Step] = {}
        self._sources: dict[str, str] = {}
        self._position = 0
        self._headed = False
        self._last = ""
        self._warnings: list[BuildWarning] = []

    def plan(self, plan: Plan) -> list[ProgressMessage]:
        """The Dockerfile has been read."""
        self._lines = plan.lines
        self._sources = _image_ids(plan.graph)
        self._warnings.extend(plan.warnings)
        for line in plan.lines:
            if line.vertex:
                self._steps.setdefault(line.vertex, _Step(self._room))
        return self._told(self._advance())

    def progress(self, progress: BuildProgress) -> list[ProgressMessage]:
        """Something has happened."""
        messages: list[ProgressMessage] = []
        for vertex in progress.vertices:
            self._step(vertex.digest).vertex = vertex
        for status in progress.statuses:
            if status.vertex in self._steps:
                self._steps[status.vertex].add(_status(status))
        for log in progress.logs:
            step = self._steps.get(log.vertex)
            if step is None:
                messages.extend(_Text(log.stream).messages(log.data))
            else:
                step.log(log)
        self._warnings.extend(progress.warnings)
        messages.extend(self._advance())
        return self._told(messages)

    def success(self, result: BuildResult, tags: Sequence[str]) -> list[ProgressMessage]:
        """It is done, and the image has these names."""
        image = result.id
        if self._quiet:
            return [_stream(f"{image}\n")]
        short = parse_digest(image).hex[:_SHORT] if image else ""
        return [
            *self._advance(),
            *(_stream(f"[Warning] {_advice(warning)}\n") for warning in self._warnings),
            *([ProgressMessage(aux={"ID": image}), _stream(f"Successfully built {short}\n")] if image else []),
            *(_stream(f"Successfully tagged {tag}\n") for tag in tags),
        ]

    def failure(self, error: Exception) -> list[ProgressMessage]:
        """It has failed: what has been held back of what was done, then the error."""
        messages = [*self._held.take(), *self._remaining()]
        code = error.code if isinstance(error, StepFailed) else UNSET
        return [*messages, ProgressMessage(error=str(error), error_detail=ErrorDetail(message=str(error), code=code))]

    def is_refusal(self, error: Exception) -> bool:
        """Whether an error is an answer of its own, if nothing has been told yet."""
        return isinstance(error, InvalidParameter | NotImplementedHere)

    def _told(self, messages: list[ProgressMessage]) -> list[ProgressMessage]:
        if not self._quiet:
            return messages
        # As with Docker, it is only told if the build fails.
        for message in messages:
            self._held.add(message)
        return []

    def _step(self, digest: str) -> _Step:
        step = self._steps.get(digest)
        # One without a line (a context that is read) has nothing that is shown, and isn't kept.
        return _Step(self._room) if step is None else step

    def _advance(self) -> list[ProgressMessage]:
        """Whatever can be told by now without telling anything out of order."""
        messages: list[ProgressMessage] = []
        while self._position < len(self._lines):
            line = self._lines[self._position]
            if not self._headed:
                self._headed = True
                messages.append(self._header(line))
            step = self._steps.get(line.vertex)
            if step is None:
                messages.append(self._made(_derived(self._last, line.text)))
            else:
                messages.extend(step.output(line))
                if not step.succeeded:
                    return messages
                if step.vertex is not None and step.vertex.cached and not line.text.upper().startswith("FROM "):
                    messages.append(_stream(" ---> Using cache\n"))
                messages.append(self._made(self._sources.get(line.vertex) or parse_digest(line.vertex).hex[:_SHORT]))
            self._position += 1
            self._headed = False
        return messages

    def _remaining(self) -> Iterator[ProgressMessage]:
        """After a failure: what there is of the steps that haven't been told, the failed one last."""
        current, rest = self._position, range(self._position + 1, len(self._lines))
        failed = next((at for at in range(current, len(self._lines)) if self._failed(at)), current)
        for position in sorted({current, *(at for at in rest if self._done(at)), failed}, key=lambda at: (at == failed, at)):
            if position >= len(self._lines):
                return
            line = self._lines[position]
            if position != current or not self._headed:
                self._position = position
                yield self._header(line)
            step = self._steps.get(line.vertex)
            if step is not None:
                yield from step.output(line)

    def _failed(self, position: int) -> bool:
        step = self._steps.get(self._lines[position].vertex)
        return step is not None and step.vertex is not None and bool(step.vertex.error)

    def _done(self, position: int) -> bool:
        step = self._steps.get(self._lines[position].vertex)
        return step is not None and step.succeeded

    def _header(self, line: Line) -> ProgressMessage:
        return _stream(f"Step {self._position + 1}/{len(self._lines)} : {line.text}\n")

    def _made(self, shown: str) -> ProgressMessage:
        self._last = shown
        return _stream(f" ---> {shown}\n")


class _Room:
    """How much all that waits of one build takes, in bytes."""

    def __init__(self) -> None:
        self.taken = 0


class _Held:
    """Messages that wait, within the room that there is for all of them."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self._messages: deque[tuple[ProgressMessage, int]] = deque()
        self._clipped = False

    def add(self, message: ProgressMessage) -> None:
        size = _OVERHEAD + (len(message.stream) if message.stream else 0)
        self._room.taken += size
        self._messages.append((message, size))
        while self._room.taken > _HELD_LIMIT and self._messages:
            self._room.taken -= self._messages.popleft()[1]
            self._clipped = True

    def take(self) -> list[ProgressMessage]:
        """All of them, which wait no longer."""
        messages = [_stream(_CLIPPED)] if self._clipped else []
        messages += [message for message, _ in self._messages]
        self._room.taken -= sum(size for _, size in self._messages)
        self._messages.clear()
        self._clipped = False
        return messages


class _Step:
    """What there is to tell of one vertex, until it is its turn."""

    def __init__(self, room: _Room) -> None:
        self.vertex: BuildVertex | None = None
        self._waiting = _Held(room)
        self._texts: dict[int, _Text] = {}
        self._running = False

    @property
    def succeeded(self) -> bool:
        vertex = self.vertex
        return vertex is not None and vertex.completed > 0 and not vertex.error

    def add(self, message: ProgressMessage) -> None:
        self._waiting.add(message)

    def log(self, log: BuildLog) -> None:
        text = self._texts.setdefault(log.stream, _Text(log.stream))
        for message in text.messages(log.data):
            self._waiting.add(message)

    def output(self, line: Line) -> list[ProgressMessage]:
        """What has come since the last time."""
        messages = self._waiting.take()
        vertex = self.vertex
        ran = bool(messages) or (vertex is not None and vertex.completed > 0 and not vertex.cached)
        if vertex is not None and ran and not self._running and line.text.upper().startswith("RUN "):
            self._running = True
            messages.insert(0, _stream(f" ---> Running in {parse_digest(line.vertex).hex[:_SHORT]}\n"))
        return messages


class _Text:
    """A stream's bytes as text, whose characters may come in pieces."""

    def __init__(self, stream: int) -> None:
        self._colour = stream == _STDERR
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def messages(self, data: bytes) -> Iterator[ProgressMessage]:
        text = self._decoder.decode(data)
        if text:
            yield _stream(f"{_RED}{text}{_PLAIN}" if self._colour else text)


def _image_ids(graph: Graph) -> dict[str, str]:
    """The short ids of the images that a build begins with, by their vertices."""
    found: dict[str, str] = {}
    for digest, vertex in graph.vertices.items():
        if isinstance(vertex.op, ImageSource):
            found[digest] = vertex.op.reference.rpartition("sha256:")[2][:_SHORT]
    return found


def _status(status: BuildStatus) -> ProgressMessage:
    """How far a part is, in a pull's words: parts are layers, by their short names, or what is done with one."""
    action, _, subject = status.id.rpartition(" ")
    if not action:
        action = "Pull complete" if status.completed else "Downloading"
    if status.completed:
        return ProgressMessage(status=action.capitalize(), id=subject, progress_detail=ProgressDetail())
    detail = ProgressDetail(current=status.current or UNSET, total=status.total or UNSET)
    progress = bar(status.current, status.total, 0.0) or UNSET
    return ProgressMessage(status=action.capitalize(), id=subject, progress=progress, progress_detail=detail)


def _derived(last: str, text: str) -> str:
    """A name for what a change of the configuration makes of the step before."""
    return hashlib.sha256(f"{last}\n{text}".encode()).hexdigest()[:_SHORT]


def _advice(warning: BuildWarning) -> str:
    place = f" (line {warning.line})" if warning.line else ""
    return f"{warning.rule}: {warning.message}{place}" if warning.rule else f"{warning.message}{place}"


def _stream(text: str) -> ProgressMessage:
    return ProgressMessage(stream=text)
