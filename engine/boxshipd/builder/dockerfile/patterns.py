"""Shell patterns, as ``${name#pattern}`` and its kin have them: ``*`` and ``?``, with ``\\`` before what is meant as it is.

They are matched without backtracking, so that no pattern takes longer than its length times the value's. As in BuildKit, whose
patterns become Go's regular expressions, ``*`` and ``?`` don't match the end of a line.

Source: BuildKit frontend/dockerfile/shell/lex.go (convertShellPatternToRegex, trimPrefix, trimSuffix).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_PATTERN = 1024
"""Characters of a pattern."""
MAX_VALUE = 128 * 1024
"""Characters of a value that is matched: what the kernel takes as one variable (MAX_ARG_STRLEN)."""


class PatternError(ValueError):
    """A pattern can't be right, or is too long; its text says why."""


class Pattern:
    """A pattern, for matching.

    Args:
        text: the pattern.
        backwards: it is matched from the end of the value, which then has to be given reversed.

    Raises:
        PatternError: it can't be right.
    """

    def __init__(self, text: str, *, backwards: bool = False) -> None:
        if len(text) > MAX_PATTERN:
            raise PatternError(f"pattern is longer than {MAX_PATTERN} characters")
        parts = list(_parts(text))
        if backwards:
            parts.reverse()
        self._pieces = [re.compile(piece) for piece in _pieces(parts)]

    def prefix(self, value: str, *, longest: bool) -> int | None:
        """Where the value's shortest or longest prefix ends that matches; None where none does."""
        return self._end(value, 0, longest=longest)

    def spans(self, value: str) -> Iterator[tuple[int, int]]:
        """What matches, from left to right, each as long as it can be; an empty match right after another is none."""
        at, last = 0, -1
        while at <= len(value):
            found = self._search(value, at)
            if found is None:
                return
            start, end = found
            if end > start or start != last:
                yield start, end
            last = end
            at = end if end > start else end + 1

    def _search(self, value: str, at: int) -> tuple[int, int] | None:
        """The leftmost match from a place on."""
        while at <= len(value):
            first = self._pieces[0].search(value, at)
            if first is None:
                return None
            end = self._end(value, first.start(), longest=True)
            if end is not None:
                return first.start(), end
            # What doesn't match from here on doesn't from any later place of this line either.
            line_end = value.find("\n", first.start())
            if line_end < 0:
                return None
            at = line_end + 1
        return None

    def _end(self, value: str, start: int, *, longest: bool) -> int | None:
        """Where a match that starts at ``start`` ends."""
        first = self._pieces[0].match(value, start)
        if first is None:
            return None
        at = first.end()
        rest = self._pieces[1:]
        for place, piece in enumerate(rest):
            line_end = value.find("\n", at)
            limit = len(value) if line_end < 0 else line_end
            if longest and place == len(rest) - 1:
                return _rightmost(piece, value, at, limit)
            # Leftmost is best: it leaves most to those that follow.
            found = piece.search(value, at, limit)
            if found is None:
                return None
            at = found.end()
        return at


def _rightmost(piece: re.Pattern[str], value: str, start: int, limit: int) -> int | None:
    """Where the last match of a piece ends."""
    for at in range(limit, start - 1, -1):
        found = piece.match(value, at, limit)
        if found is not None:
            return found.end()
    return None


def _parts(text: str) -> Iterator[str | None]:
    """A pattern's parts: ``*``, None for any character, or an escaped regular expression for a character."""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            yield "*"
        elif char == "?":
            yield None
        elif char != "\\":
            yield re.escape(char)
        elif text[at : at + 1] in ("}", "/"):
            continue  # Escaped for ${}'s own sake, and so no part of the pattern.
        elif text[at : at + 1] in ("*", "?", "\\") and at < len(text):
            yield re.escape(text[at])
            at += 1
        else:
            raise PatternError(f"invalid escape '\\{text[at : at + 1]}'")


def _pieces(parts: list[str | None]) -> list[str]:
    """Regular expressions of what is between the stars."""
    pieces = [""]
    for part in parts:
        if part == "*":
            pieces.append("")
        else:
            pieces[-1] += "." if part is None else part
    return pieces


def strip_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the prefix that matches.

    Raises:
        PatternError: the pattern can't be right, or the value is too long.
    """
    _check(value)
    return value[Pattern(pattern).prefix(value, longest=longest) or 0 :]


def strip_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """The value without the suffix that matches.

    Raises:
        PatternError: the pattern can't be right, or the value is too long.
    """
    _check(value)
    end = Pattern(pattern, backwards=True).prefix(value[::-1], longest=longest) or 0
    return value[: len(value) - end]


def replace(value: str, pattern: str, replacement: str, *, everywhere: bool, limit: int) -> str:
    """The value with what matches replaced, the first or all of it.

    Raises:
        PatternError: the pattern can't be right, the value is too long, or the result is longer than ``limit`` characters.
    """
    _check(value)
    out: list[str] = []
    at = length = 0
    for start, end in Pattern(pattern).spans(value):
        out += (value[at:start], replacement)
        length += start - at + len(replacement)
        if length > limit:
            raise PatternError(f"result is longer than {limit} characters")
        at = end
        if not everywhere:
            break
    return "".join(out) + value[at:]


def _check(value: str) -> None:
    if len(value) > MAX_VALUE:
        raise PatternError(f"value is longer than {MAX_VALUE} characters")
