"""One build: the request, the session beside it, and what is shown meanwhile."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from boxship.building.session import Chunks, Session, Supplies
from boxship.building.state import BuildState, printable
from boxship.building.values import Agent, Output, Secret
from boxship.cli.accounts import registry_config_header
from boxship.cli.command import Context
from boxship.errors import APIError, CommandError, ProtocolError, StreamError
from boxship.types.build import BuildProgress
from boxship.types.build_request import BuildRequest, BuildResult

if TYPE_CHECKING:
    from boxship.building.outputs import Receiver
    from boxship.building.ticking import View

PROGRESS = "boxship.build.progress"
RESULT = "boxship.build.result"
_RULER = "-" * 20
_JSON = [("Content-Type", "application/json")]


def run_build(
    context: Context,
    request: BuildRequest,
    *,
    contexts: Mapping[str, Chunks],
    secrets: Sequence[Secret],
    agents: Sequence[Agent],
    outputs: Sequence[Output],
    caches: Mapping[str, str],
    progress: str,
    state: BuildState,
) -> BuildResult:
    """Have the daemon build, supply what it asks for, and show how it goes.

    Args:
        context: what the command works with.
        request: the build.
        contexts: by name, what makes a tar stream of each context.
        secrets: what commands may see.
        agents: what commands may use.
        outputs: the request's outputs, in its order.
        caches: the directories that cache goes to, by the names that the daemon has for them.
        progress: ``auto``, ``plain``, ``tty``, ``rawjson`` or ``quiet``.
        state: gets what the daemon tells of the build.

    Raises:
        APIError: the daemon refused.
        StreamError: the build failed.
    """
    supplies = Supplies(contexts, secrets, agents, _receivers(outputs, caches))
    with Session(context.api, supplies) as session, _showing(state, progress) as view, _explained_by(session):
        query = {"version": "boxship", "session": session.id}
        headers = [*_JSON, registry_config_header(context)]
        body = msgspec.json.encode(request)
        with context.api.open("POST", "/build", query, body, headers) as response:
            result = _follow(response.lines(), view)
    return result


def _receivers(outputs: Sequence[Output], caches: Mapping[str, str]) -> dict[str, Receiver]:
    """Where things go on this side, by the names that the daemon has for them."""
    if not caches and not any(output.destination for output in outputs):
        return {}
    from boxship.building.outputs import Directory, receiver_of

    receivers: dict[str, Receiver] = {name: Directory(path) for name, path in caches.items()}
    for number, output in enumerate(outputs):
        if receiver := receiver_of(output):
            receivers[str(number)] = receiver
    return receivers


@contextlib.contextmanager
def _explained_by(session: Session) -> Iterator[None]:
    """What broke on our side of the session explains whatever the daemon says afterwards."""
    try:
        yield
    except (APIError, StreamError, ProtocolError) as error:
        if session.failure is None:
            raise
        raise CommandError(f"the build's session broke: {session.failure}") from error


def _follow(lines: Iterator[bytes], view: View) -> BuildResult:
    result = BuildResult()
    for line in lines:
        if not line.strip():
            continue
        message = msgspec.json.decode(line)
        if "errorDetail" in message or "error" in message:
            detail = message.get("errorDetail") or {}
            view.close()
            if excerpt := detail.get("excerpt"):
                shown = printable(str(excerpt), lines=True)
                _write(f"{_RULER}\n{shown}\n{_RULER}\n".encode("utf-8", "replace"))
            raise StreamError(printable(str(detail.get("message") or message.get("error")), lines=True))
        aux = message.get("aux")
        if message.get("id") == PROGRESS:
            view.apply(msgspec.convert(aux, BuildProgress))
        elif message.get("id") == RESULT:
            result = msgspec.convert(aux, BuildResult)
    return result


class _Quiet:
    """Shows nothing, unless the build fails."""

    def __init__(self, state: BuildState) -> None:
        self._state = state

    def apply(self, progress: BuildProgress) -> None:
        self._state.apply(progress)

    def tick(self) -> None:
        return

    def close(self) -> None:
        return


class _Raw(_Quiet):
    """Shows the progress as it comes, one JSON document a line."""

    def apply(self, progress: BuildProgress) -> None:
        super().apply(progress)
        _write(msgspec.json.encode(progress) + b"\n")


@contextlib.contextmanager
def _showing(state: BuildState, kind: str) -> Iterator[View]:
    """A view that is told that time goes by, and its end: what failed, and what could be better."""
    if kind == "auto":
        kind = "tty" if os.isatty(2) else "plain"
    if kind == "tty" and not os.isatty(2):
        raise CommandError("failed to get console: standard error is not a terminal")
    if kind != "tty":
        try:
            if kind == "plain":
                from boxship.building.plain import PlainView

                yield PlainView(state, lambda text: _write(text.encode("utf-8", "replace")))
            else:
                yield _Raw(state) if kind == "rawjson" else _Quiet(state)
        finally:
            _epilogue(state, kind)
        return
    from boxship.building.live import LiveView
    from boxship.building.ticking import Ticking

    view = LiveView(state, _write, lambda: os.get_terminal_size(2), colours="NO_COLOR" not in os.environ)
    with Ticking(view) as ticking:
        try:
            yield ticking
        finally:
            ticking.close()
            _epilogue(state, kind)


def _epilogue(state: BuildState, kind: str) -> None:
    """What a reader wants to see last: the failed step's output, and advice."""
    if kind == "rawjson":
        return
    parts: list[str] = []
    for step in state.steps.values():
        if step.vertex.error and step.lines:
            begun = step.vertex.started
            output = "".join(f"{max(0, at - begun) / 1e9:.3f} {line}\n" if at else f"{line}\n" for at, line in step.lines)
            parts.append(f"------\n > {step.vertex.name}:\n{output}------\n")
    if state.warnings and kind != "quiet":
        count = len(state.warnings)
        parts.append(f"\n {count} warning{'s' if count > 1 else ''} found:\n")
        parts.extend(
            (f" - {warning.rule}: " if warning.rule else " - ")
            + warning.message
            + (f" (line {warning.line})\n" if warning.line else "\n")
            for warning in state.warnings
        )
    if parts:
        _write("".join(parts).encode("utf-8", "replace"))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(2, data) :]
