"""Wildcards in the sources of COPY and ADD: Go's path patterns, one component of a path at a time.

``*`` is any number of characters, ``?`` one, ``[a-z]`` one of some and ``[^a-z]`` one of all others; ``\\`` before a character
means it as it is. Matching takes at most the pattern's length times the name's. Source: Go path/filepath, Match; fsutil
copy/copy.go, ResolveWildcards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from boxshipd.builder.results import Entry, Tree
from boxshipd.builder.trees.paths import join

_Test = Callable[[str], bool]
_STAR: _Test | None = None


class Pattern:
    """A pattern for one component.

    Args:
        text: the pattern. One that can't be right matches nothing, as with BuildKit.
    """

    def __init__(self, text: str) -> None:
        try:
            self._tests: list[_Test | None] | None = list(_tests(text))
        except ValueError:
            self._tests = None

    def matches(self, name: str) -> bool:
        """Whether the whole of a name matches."""
        tests = self._tests
        if tests is None:
            return False
        at = place = 0
        # Where the last star is, and how far what it stands for goes: earlier ones needn't be tried again.
        star, covered = -1, 0
        while at < len(name):
            test = tests[place] if place < len(tests) else None
            if place < len(tests) and test is _STAR:
                star, covered = place, at
                place += 1
            elif test is not None and test(name[at]):
                place += 1
                at += 1
            elif star >= 0:
                covered += 1
                place, at = star + 1, covered
            else:
                return False
        return all(test is _STAR for test in tests[place:])


def has_wildcards(component: str) -> bool:
    """Whether a component is a pattern."""
    at = 0
    while at < len(component):
        if component[at] == "\\":
            at += 1
        elif component[at] in "*?[":
            return True
        at += 1
    return False


def expand(tree: Tree, top: bytes, components: list[str], check: Callable[[], None]) -> Iterator[Entry]:
    """What matches below a directory, in the order of the names; links are matched, not followed.

    Args:
        tree: the tree.
        top: the directory.
        components: patterns, one for each level.
        check: called for each directory that is looked into; it may raise to end the work.
    """
    patterns = [Pattern(component) if has_wildcards(component) else component for component in components]
    pending = [(top, 0)]
    while pending:
        above, level = pending.pop()
        check()
        found = _step(tree, above, patterns[level])
        if level + 1 == len(patterns):
            yield from found
        else:
            pending.extend((entry.path, level + 1) for entry in reversed(found) if entry.kind == "directory")


def _step(tree: Tree, above: bytes, pattern: Pattern | str) -> list[Entry]:
    if isinstance(pattern, str):
        entry = tree.entry(join(above, os.fsencode(pattern.replace("\\", ""))))
        return [] if entry is None else [entry]
    prefix = len(above) + 1 if above else 0
    return [entry for entry in tree.children(above) if pattern.matches(os.fsdecode(entry.path[prefix:]))]


def _tests(text: str) -> Iterator[_Test | None]:
    """A test for each character that is to match; None for a star.

    Raises:
        ValueError: it isn't a pattern.
    """
    at = 0
    while at < len(text):
        char = text[at]
        if char == "*":
            yield _STAR
            at += 1
        elif char == "?":
            yield lambda _: True
            at += 1
        elif char == "[":
            ranges, negated, at = _ranges(text, at + 1)
            yield _member(ranges, negated)
        else:
            char, at = _literal(text, at)
            yield _equal(char)


def _literal(text: str, at: int) -> tuple[str, int]:
    if text[at] != "\\":
        return text[at], at + 1
    if at + 1 == len(text):
        raise ValueError("nothing is escaped")
    return text[at + 1], at + 2


def _equal(wanted: str) -> _Test:
    return lambda char: char == wanted


def _member(ranges: list[tuple[str, str]], negated: bool) -> _Test:
    return lambda char: any(low <= char <= high for low, high in ranges) != negated


def _ranges(text: str, at: int) -> tuple[list[tuple[str, str]], bool, int]:
    """The ranges of a class that begins at a place, whether all others are meant, and where it has ended."""
    negated = text[at : at + 1] == "^"
    at += negated
    ranges: list[tuple[str, str]] = []
    while at < len(text) and (text[at] != "]" or not ranges):
        low, at = _bound(text, at)
        high = low
        if text[at : at + 1] == "-":
            high, at = _bound(text, at + 1)
        ranges.append((low, high))
    if at >= len(text):
        raise ValueError("a class doesn't end")
    return ranges, negated, at + 1


def _bound(text: str, at: int) -> tuple[str, int]:
    if at >= len(text) or text[at] in "-]":
        raise ValueError("a class has a range without an end")
    return _literal(text, at)
