"""Progress of long work: lines that change in place where a terminal shows them, plain lines elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from boxship.errors import StreamError
from boxship.terminal.live import LiveLines
from boxship.units import human_size

_WIDEST_BAR = 50
_NARROWEST_BAR = 10
_WIDE = 110
"""The width from which Docker's tools draw bars."""
_FINAL = frozenset(("Already exists", "Layer already exists", "Pull complete", "Pushed"))
_CONTROL = dict.fromkeys((*range(32), *range(127, 160)))


class Progress:
    """Shows a stream of progress messages, as Docker's tools show it.

    Args:
        fd: where to write.
        quiet: whether to show nothing but failures.
        aux: takes what the stream says to the program rather than to people.
    """

    def __init__(self, fd: int, *, quiet: bool = False, aux: Callable[[Any], object] | None = None) -> None:
        self._fd = fd
        self._quiet = quiet
        self._aux = aux
        self._live = LiveLines(fd) if not quiet and os.isatty(fd) else None

    def message(self, message: dict[str, Any]) -> None:
        """Show one message.

        Raises:
            StreamError: it reports a failure.
        """
        detail = message.get("errorDetail") or {}
        if failure := detail.get("message") or message.get("error"):
            raise StreamError("authentication is required" if detail.get("code") == 401 else _printable(str(failure)))
        if "aux" in message:
            if self._aux is not None:
                self._aux(message["aux"])
        elif not self._quiet:
            self._show(message)

    def close(self) -> None:
        """Leave the last state of every line where it is."""
        if self._live is not None:
            self._live.commit()

    def _show(self, message: dict[str, Any]) -> None:
        if "stream" in message:
            self._write(str(message["stream"]))
            return
        status = _printable(str(message.get("status", "")))
        name = _printable(str(message.get("id", "")))
        detail = message.get("progressDetail")
        line = f"{name}: {status}" if name else status
        if self._live is not None and name and detail is not None:
            final = status in _FINAL or status.startswith("Mounted from")
            self._live.set(name, line + _meter(detail, self._live.width, len(line) + 1), final=final)
        elif not (detail and _meter(detail, 0, 0)):
            # A bar redrawn a thousand times is noise in a file.
            self._write(line + "\n")

    def _write(self, text: str) -> None:
        if self._live is not None:
            self._live.commit()
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data) :]


def _printable(text: str) -> str:
    """The text without control characters: some of it is a registry's, which has no say in what the terminal does."""
    return text.translate(_CONTROL)


def _meter(detail: dict[str, Any], width: int, taken: int) -> str:
    """How far a step has come, behind a blank; empty where nothing is known of it.

    Args:
        detail: the message's ``progressDetail``.
        width: the terminal's.
        taken: how much of a line is taken.
    """
    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
    if current <= 0 and total <= 0:
        return ""
    unit = str(detail.get("units") or "")
    if total <= 0:
        return f" {current} {unit}" if unit else f" {human_size(current, 4):>8}"
    if detail.get("hidecounts"):
        numbers = ""
    elif unit:
        numbers = f"{current}/{total} {unit}" if current <= total else f"{current} {unit}"
    else:
        numbers = f"{human_size(current, 4):>8}" + (f"/{human_size(total, 4)}" if current <= total else "")
    room = _WIDEST_BAR if width > _WIDE else min(_WIDEST_BAR, width - taken - len(numbers) - len("[>] "))
    return f" {_arrow(current, total, room)}{numbers}" if room >= _NARROWEST_BAR else f" {numbers}"


def _arrow(current: int, total: int, room: int) -> str:
    filled = min(room, int(current / total * room))
    return f"[{'=' * filled}>{' ' * (room - filled)}] "


def bar(current: int, total: int) -> str:
    """A bar with the numbers of bytes behind it; the number alone where the total isn't known."""
    return _meter({"current": current, "total": total}, _WIDE + 1, 0).removeprefix(" ")


def show(lines: Iterable[bytes], *, quiet: bool = False, fd: int = 1, aux: Callable[[Any], object] | None = None) -> None:
    """Show a stream of messages, one JSON object a line.

    Args:
        lines: the stream.
        quiet: whether to show nothing but failures.
        fd: where to write.
        aux: takes what the stream says to the program rather than to people.

    Raises:
        StreamError: the stream reports a failure.
    """
    progress = Progress(fd, quiet=quiet, aux=aux)
    try:
        for line in lines:
            if line.strip():
                progress.message(json.loads(line))
    finally:
        progress.close()
