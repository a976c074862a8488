"""Patterns of an ignore file, or of ``COPY --exclude``.

``*`` and ``?`` and ``[...]`` match within a name, ``**`` any number of directories, and ``\\`` takes a character as it is. A
pattern is matched as cheaply as what is in it allows, and never in more time than its length times the path's: one in which a
regular expression could go back and forth for long becomes an automaton.

Source: moby/patternmatcher patternmatcher.go (compile, match); Go's path/filepath.Match for what is a pattern at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from boxship.terminal.govalues import quote

_MAX_BACKTRACKING = 2
"""Wildcards with which a regular expression is still quick on the longest path that there can be (4096 bytes), as long as only
one of them goes beyond a slash."""


class GlobError(ValueError):
    """A pattern can't be right; its text says why."""


@dataclass(frozen=True, slots=True)
class _Char:
    """One character that a regular expression describes; ``literal`` where it is only that."""

    expression: str
    literal: str = ""


@dataclass(frozen=True, slots=True)
class _Star:
    """Anything but slashes."""


@dataclass(frozen=True, slots=True)
class _Directories:
    """Any number of directories, none included: nothing, or anything that ends in a slash."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """Anything."""


_Part = _Char | _Star | _Directories | _Rest


class GlobSet:
    """Patterns, of which any may match. For one thread at a time.

    Args:
        patterns: the patterns, cleaned: without ``.`` and ``..``, doubled and trailing slashes.

    Raises:
        GlobError: one of them can't be right.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        exact: set[str] = set()
        prefixes: list[str] = []
        suffixes: list[str] = []
        expressions: list[str] = []
        self._automata: list[_Automaton] = []
        for pattern in patterns:
            parts = _without_repeats(_parts(pattern))
            if not _special(pattern):
                exact.add(pattern)
            elif pattern.endswith("**") and not _special(pattern[:-2]):
                prefixes.append(pattern[:-2])
            elif pattern.startswith("**") and not _special(pattern[2:]):
                suffixes.append(pattern[2:])
                # ``**/name`` is name as well.
                exact |= {pattern[3:]} if pattern.startswith("**/") else set()
            elif _is_quick(parts):
                expressions.append("".join(map(_expression, parts)))
            else:
                self._automata.append(_Automaton(parts))
        self._exact = frozenset(exact)
        self._prefixes = tuple(prefixes)
        self._suffixes = tuple(suffixes)
        self._expression = re.compile("|".join(expressions)) if expressions else None

    def matches(self, path: str) -> bool:
        """Whether one of them matches a path."""
        return (
            path in self._exact
            or path.startswith(self._prefixes)
            or path.endswith(self._suffixes)
            or (self._expression is not None and self._expression.fullmatch(path) is not None)
            or any(automaton.matches(path) for automaton in self._automata)
        )


def _special(pattern: str) -> bool:
    return any(char in pattern for char in "*?[]\\")


def _is_quick(parts: list[_Part]) -> bool:
    """Whether a regular expression doesn't go back and forth for long."""
    wild = [part for part in parts if not isinstance(part, _Char)]
    return len(wild) <= _MAX_BACKTRACKING and sum(not isinstance(part, _Star) for part in wild) <= 1


def _without_repeats(parts: Iterable[_Part]) -> list[_Part]:
    """The parts without wildcards that match nothing more than what is before them does."""
    kept: list[_Part] = []
    for part in parts:
        if not (kept and isinstance(part, (_Star, _Directories)) and part == kept[-1]):
            kept.append(part)
    return kept


def _parts(pattern: str) -> Iterator[_Part]:
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            yield _Directories() if at < len(pattern) else _Rest()
        elif char == "*":
            yield _Star()
        elif char == "?":
            yield _Char("[^/]")
        elif char == "[":
            expression, at = _character_class(pattern, at)
            yield _Char(expression)
        elif char == "\\":
            if at == len(pattern):
                raise GlobError(f"syntax error in pattern {quote(pattern)}")
            yield _Char(re.escape(pattern[at]), pattern[at])
            at += 1
        else:
            yield _Char(re.escape(char), char)


def _character_class(pattern: str, at: int) -> tuple[str, int]:
    """The regular expression of a class that begins before ``at``, and where it ends."""
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while not (ranges and pattern.startswith("]", at)):
        low, at = _class_member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _class_member(pattern, at + 1)
        if high < low:
            raise GlobError(f"invalid character class range {low}-{high} in pattern {quote(pattern)}")
        ranges.append(re.escape(low) if high == low else f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' * negated}{''.join(ranges)}]", at + 1


def _class_member(pattern: str, at: int) -> tuple[str, int]:
    char = pattern[at : at + 1]
    if char == "\\":
        at += 1
        char = pattern[at : at + 1]
    elif char in ("-", "]"):
        char = ""
    # A class has to be closed, so there is something behind its last member.
    if not char or at + 1 == len(pattern):
        raise GlobError(f"syntax error in pattern {quote(pattern)}")
    return char, at + 1


def _expression(part: _Part) -> str:
    match part:
        case _Char(expression=expression):
            return expression
        case _Star():
            return "[^/]*"
        case _Directories():
            return "(?:.*/)?"
        case _Rest():
            return ".*"


class _Automaton:
    """A pattern as a nondeterministic automaton; the states it is in are the bits of a number.

    State ``2 * n`` is before part ``n``; state ``2 * n + 1`` is inside of it, where it is some directories. It goes on from the
    directory that the last path and this one have in common, so it is for one thread at a time.

    Args:
        parts: the pattern's parts.
    """

    def __init__(self, parts: list[_Part]) -> None:
        self._head = _literal(parts)
        self._tail = _literal(parts[::-1])[::-1]
        self._tests = [
            (1 << 2 * place, re.compile(part.expression).fullmatch)
            for place, part in enumerate(parts)
            if isinstance(part, _Char)
        ]
        self._stars = _states(parts, _Star)
        self._rest = _states(parts, _Rest)
        self._directories = _states(parts, _Directories)
        self._optional = self._stars | self._rest | self._directories
        self._end = 1 << 2 * len(parts)
        self._accepting: dict[str, int] = {}
        self._trail = [("", self._closed(1))]

    def matches(self, path: str) -> bool:
        if not path.startswith(self._head) or not path.endswith(self._tail):
            return False
        trail = self._trail
        while not path.startswith(trail[-1][0]):
            trail.pop()
        walked, states = trail[-1]
        for place in range(len(walked), len(path)):
            char = path[place]
            states = self._step(states, char)
            if char == "/":
                trail.append((path[: place + 1], states))
        return bool(states & self._end)

    def _step(self, states: int, char: str) -> int:
        if not states:
            return 0
        accepting = self._accepting.get(char)
        if accepting is None:
            accepting = sum(state for state, test in self._tests if test(char))
            self._accepting[char] = accepting
        after = (states & accepting) << 2
        if char != "\n":
            inside = (states & self._directories) << 1 | states & self._directories << 1
            after |= states & self._rest | inside
            if char == "/":
                after |= inside << 1
            else:
                after |= states & self._stars
        return self._closed(after)

    def _closed(self, states: int) -> int:
        """With the states that are reached by skipping parts that may match nothing."""
        while more := (states & self._optional) << 2 & ~states:
            states |= more
        return states


def _literal(parts: list[_Part]) -> str:
    """What a path has to begin with, to match."""
    text = ""
    for part in parts:
        if not isinstance(part, _Char) or not part.literal:
            break
        text += part.literal
    return text


def _states(parts: list[_Part], kind: type[_Part]) -> int:
    """The states before the parts of one kind."""
    return sum(1 << 2 * place for place, part in enumerate(parts) if isinstance(part, kind))
