"""Lines at a terminal's bottom that change in place: as many as there are rows, however narrow they must be."""

from __future__ import annotations

import os

_ASSUMED = os.terminal_size((80, 24))


class LiveLines:
    """Named lines at the bottom of a terminal, each in its place.

    Where there are more than the terminal has rows, lines in their final state move up and out of reach, and of those still at
    work the last ones are only counted. A line is cut at the terminal's edge: one that wrapped would put every later move of
    the cursor a row off.

    Args:
        fd: the terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: dict[str, str] = {}
        self._final: set[str] = set()
        self._drawn: list[str] = []
        self._size = self._current_size()

    @property
    def width(self) -> int:
        """The terminal's width in characters."""
        return self._size.columns

    def set(self, name: str, text: str, *, final: bool) -> None:
        """Change a line, or add one at the bottom.

        Args:
            name: which line.
            text: what it says now.
            final: whether it will say nothing else, so that it may leave the screen.
        """
        known = name in self._lines
        self._lines[name] = text
        if final:
            self._final.add(name)
        size = self._current_size()
        if known and size == self._size and len(self._lines) == len(self._drawn):
            self._replace(list(self._lines).index(name), text)
            return
        rows = self._occupied(size.columns)
        self._size = size
        self._redraw(rows)

    def commit(self) -> None:
        """Leave the lines as they are, all of them, and begin anew below."""
        if self._lines:
            self._size = self._current_size()
            lines = "".join(f"{self._cut(text)}\n" for text in self._lines.values())
            self._put(self._back(self._occupied(self._size.columns)) + lines)
        self._lines.clear()
        self._final.clear()
        self._drawn = []

    def _replace(self, row: int, text: str) -> None:
        text = self._cut(text)
        if text != self._drawn[row]:
            up = len(self._drawn) - row
            self._put(f"\x1b[{up}A\r\x1b[2K{text}\x1b[{up}B\r")
            self._drawn[row] = text

    def _redraw(self, rows: int) -> None:
        """Draw everything below the last line that has left, ``rows`` rows further up."""
        limit = max(1, self._size.lines - 1)
        leaving = []
        for name in list(self._lines):
            if len(self._lines) <= limit:
                break
            if name in self._final:
                leaving.append(self._cut(self._lines.pop(name)))
                self._final.discard(name)
        texts = list(self._lines.values())
        if len(texts) > limit:
            texts = [*texts[: limit - 1], f"… and {len(texts) - limit + 1} more"]
        self._drawn = [self._cut(text) for text in texts]
        self._put(self._back(rows) + "".join(f"{line}\n" for line in (*leaving, *self._drawn)))

    def _back(self, rows: int) -> str:
        """To the beginning of the first of the last ``rows`` rows, and clear from there."""
        return f"\x1b[{rows}A\r\x1b[J" if rows else ""

    def _occupied(self, columns: int) -> int:
        """How many rows the lines take now: a terminal that was made narrower has wrapped them."""
        return sum(max(1, -(-len(line) // columns)) for line in self._drawn)

    def _cut(self, text: str) -> str:
        return text[: self._size.columns]

    def _current_size(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._fd)
        except OSError:
            return _ASSUMED
        # A serial line knows no size.
        return size if size.columns and size.lines else _ASSUMED

    def _put(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self._fd, data) :]
