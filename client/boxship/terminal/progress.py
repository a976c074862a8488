"""Progress of long work: bars that are redrawn where a terminal shows them, plain lines elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from boxship.errors import StreamError
from boxship.units import human_size

_BAR = 50


class Progress:
    """Shows a JSON stream of progress messages.

    Args:
        fd: where to write.
        quiet: whether to show nothing but failures.
    """

    def __init__(self, fd: int, *, quiet: bool = False) -> None:
        self._fd = fd
        self._quiet = quiet
        self._terminal = os.isatty(fd)
        self._rows: dict[str, int] = {}
        self._height = 0

    def message(self, message: dict[str, Any]) -> None:
        """Show one message.

        Raises:
            StreamError: it reports a failure.
        """
        if failure := (message.get("errorDetail") or {}).get("message") or message.get("error"):
            raise StreamError(str(failure))
        if self._quiet:
            return
        if "stream" in message:
            self._write(str(message["stream"]))
            self._rows.clear()
            self._height = 0
            return
        status = str(message.get("status", ""))
        if not status:
            return
        name = str(message.get("id", ""))
        detail = message.get("progressDetail") or {}
        if not self._terminal:
            # A bar redrawn a thousand times is noise in a file.
            if not detail:
                self._write(f"{name}: {status}\n" if name else f"{status}\n")
            return
        line = f"{name}: {status}" if name else status
        if detail:
            line += f" {bar(int(detail.get('current') or 0), int(detail.get('total') or 0))}"
        self._draw(name, line)

    def _draw(self, name: str, line: str) -> None:
        if not name:
            self._write(f"{line}\n")
            self._height += 1
            return
        if name not in self._rows:
            self._rows[name] = self._height
            self._height += 1
            self._write(f"{line}\n")
            return
        up = self._height - self._rows[name]
        self._write(f"\x1b[{up}A\x1b[2K\r{line}\x1b[{up}B\r")

    def _write(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data) :]


def bar(current: int, total: int) -> str:
    """A bar with the numbers of bytes behind it; the number alone where the total isn't known."""
    if total <= 0:
        return human_size(current, 4) if current else ""
    share = min(1.0, current / total)
    filled = int(share * _BAR)
    arrow = "=" * (filled - 1) + ">" if 0 < filled < _BAR else "=" * filled
    return f"[{arrow:<{_BAR}}] {human_size(current, 4):>8}/{human_size(total, 4)}"


def show(lines: Iterable[bytes], *, quiet: bool = False, fd: int = 1) -> None:
    """Show a stream of messages, one JSON object a line.

    Args:
        lines: the stream.
        quiet: whether to show nothing but failures.
        fd: where to write.

    Raises:
        StreamError: the stream reports a failure.
    """
    progress = Progress(fd, quiet=quiet)
    for line in lines:
        if line.strip():
            progress.message(json.loads(line))
