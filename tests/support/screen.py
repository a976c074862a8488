"""What a terminal shows after a program has written to it: enough of a VT100 for lines that change in place."""

from __future__ import annotations

import re

_PART = re.compile(r"\x1b\[(\d*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """A terminal's rows, with all that has scrolled off the top.

    Attributes:
        rows: every line since the beginning, the last ``height`` of which are on the screen.
    """

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.width, self.height = width, height
        self.rows: list[str] = [""]
        self._row = 0
        self._column = 0

    @property
    def text(self) -> list[str]:
        """Every line, without blanks at the ends; those below the last are left out."""
        return "\n".join(row.rstrip() for row in self.rows).rstrip("\n").split("\n")

    def feed(self, data: bytes) -> None:
        """Take what a program wrote; a line feed begins a new line, as the kernel makes of it."""
        position = 0
        text = data.decode()
        while position < len(text):
            match = _PART.match(text, position)
            assert match, f"an unknown sequence: {text[position : position + 20]!r}"
            position = match.end()
            count, command, control, plain = match.groups()
            if command:
                self._command(command, int(count or 0))
            elif control == "\r":
                self._column = 0
            elif control == "\n":
                self._column = 0
                self._down()
            else:
                self._print(plain)

    def resize(self, width: int) -> None:
        """Change the width as terminals do that wrap anew: longer lines take more rows."""
        rows = []
        for index, row in enumerate(self.rows):
            if index == self._row:
                cursor = len(rows)
            stripped = row.rstrip()
            rows += [stripped[start : start + width] for start in range(0, max(1, len(stripped)), width)]
        self.rows, self._row, self.width = rows, cursor, width

    def _command(self, command: str, count: int) -> None:
        if command == "A":
            top = max(0, len(self.rows) - self.height)
            self._row = max(top, self._row - (count or 1))
        elif command == "B":
            self._row = min(len(self.rows) - 1, self._row + (count or 1))
        elif command == "K" and count == 2:
            self.rows[self._row] = ""
        elif command == "J" and count == 0:
            self.rows[self._row] = self.rows[self._row][: self._column]
            del self.rows[self._row + 1 :]
        elif command != "m":
            raise AssertionError(f"an unknown command: {count}{command}")

    def _down(self) -> None:
        self._row += 1
        if self._row == len(self.rows):
            self.rows.append("")

    def _print(self, text: str) -> None:
        for character in text:
            if self._column == self.width:
                self._column = 0
                self._down()
            row = self.rows[self._row].ljust(self._column)
            self.rows[self._row] = row[: self._column] + character + row[self._column + 1 :]
            self._column += 1
