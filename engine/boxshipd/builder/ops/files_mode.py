"""Modes as ``--chmod`` has them: octal, or symbolic as chmod(1) has them.

Source: Dockerfile reference, "COPY --chmod"; POSIX chmod; BuildKit's tonistiigi/dchapes-mode.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from boxshipd.errors import InvalidParameter

Change = Callable[[int, bool], int]
"""Takes a file's permissions, and whether it is a directory; its new permissions."""

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}
_MOST = 0o7777


def parse_mode(text: str) -> Change:
    """What a mode does to a file's.

    Raises:
        InvalidParameter: it isn't a mode.
    """
    if re.fullmatch(r"[0-7]+", text):
        wanted = int(text, 8)
        if wanted > _MOST:
            raise _invalid(text)
        return lambda _mode, _directory: wanted
    steps: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        found = _CLAUSE.fullmatch(clause)
        if found is None:
            raise _invalid(text)
        who = found[1].replace("a", "ugo") or "ugo"
        steps += [(who, operator, what) for operator, what in _ACTION.findall(found[2])]

    def change(mode: int, directory: bool) -> int:
        for who, operator, what in steps:
            mode = _apply(mode, who, operator, what, directory)
        return mode

    return change


def is_octal(text: str) -> bool:
    """Whether a mode leaves nothing of a file's own."""
    return text.isdigit()


def _apply(mode: int, who: str, operator: str, what: str, directory: bool) -> int:
    bits = 0
    affected = 0
    for each in set(who):
        shift = _SHIFTS[each]
        affected |= 7 << shift
        if what in _SHIFTS and what:
            bits |= (mode >> _SHIFTS[what] & 7) << shift
            continue
        bits |= sum(_BITS[letter] for letter in set(what) & set(_BITS)) << shift
        if "X" in what and (directory or mode & 0o111):
            bits |= 1 << shift
    if what not in _SHIFTS:
        bits |= _special(who, what)
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~(affected | _special(who, "st")) | bits


def _special(who: str, what: str) -> int:
    """Set-id bits, and the sticky one, which is nobody's in particular."""
    bits = 0
    if "s" in what:
        bits |= 0o4000 if "u" in who else 0
        bits |= 0o2000 if "g" in who else 0
    if "t" in what and {"u", "g", "o"} <= set(who):
        bits |= 0o1000
    return bits


def _invalid(text: str) -> InvalidParameter:
    return InvalidParameter(
        f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777, or a symbolic mode"
    )
