"""What somebody may have meant: the nearest of the words that would have been right.

Source: BuildKit util/suggest/error.go.
"""

from __future__ import annotations

from collections.abc import Iterable

_FARTHEST = 2
"""Edits between what was written and what is suggested, at most."""


def suggest(written: str, known: Iterable[str], *, cased: bool = True) -> str:
    """The nearest of the known words, or nothing where none is near, or where it is one of them.

    Args:
        written: the word.
        known: those that would have been right; of equally near ones the first is taken.
        cased: their case counts. If not, the suggestion has the case of what was written.
    """
    sought = written if cased else written.lower()
    candidates = [word if cased else word.lower() for word in known]
    if sought in candidates:
        return ""
    near = [(edits, word) for word in candidates if (edits := _distance(sought, word)) <= _FARTHEST]
    # Of equally near ones, letters in the wrong order are likelier than wrong letters.
    best = min(near, key=lambda found: (found[0], sorted(found[1]) != sorted(sought)), default=(0, ""))[1]
    if not cased and written == written.upper():
        return best.upper()
    return best


def did_you_mean(message: str, written: str, known: Iterable[str], *, cased: bool = True) -> str:
    """A message with the suggestion, if there is one."""
    nearest = suggest(written, known, cased=cased)
    return f"{message} (did you mean {nearest}?)" if nearest else message


def _distance(left: str, right: str) -> int:
    """Levenshtein's distance; beyond ``_FARTHEST`` only that it is."""
    if abs(len(left) - len(right)) > _FARTHEST:
        return _FARTHEST + 1
    row = list(range(len(right) + 1))
    for line, char in enumerate(left, 1):
        diagonal, row[0] = row[0], line
        for column, other in enumerate(right, 1):
            diagonal, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, diagonal + (char != other))
    return row[-1]
