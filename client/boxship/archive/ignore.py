"""Ignore files: what of a context isn't part of it.

Source: moby/patternmatcher patternmatcher.go (New, MatchesOrParentMatches), ignorefile/ignorefile.go; Dockerfile reference.
"""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from boxship.archive.globs import GlobError, GlobSet
from boxship.errors import InvalidValue
from boxship.terminal.govalues import SPACE

_MAX_DIRECTORIES = 65536
"""Directories whose result a matcher remembers."""


def ignore_files(dockerfile: str) -> tuple[str, ...]:
    """The names of the ignore files that may apply, of which the first that exists does, even if it is empty.

    Args:
        dockerfile: the Dockerfile's path in the context.
    """
    return (f"{dockerfile}.dockerignore", ".dockerignore")


def read_patterns(text: bytes) -> tuple[str, ...]:
    """The patterns of an ignore file, cleaned and relative to the context. Lines that begin with ``#`` are comments."""
    patterns: list[str] = []
    for line in text.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape").split("\n"):
        pattern = line.strip(SPACE)
        if line.startswith("#") or not pattern:
            continue
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:].strip(SPACE)
        if pattern:
            pattern = _clean(pattern)
            if len(pattern) > 1:
                pattern = pattern.removeprefix("/")
        patterns.append("!" * negated + pattern)
    return tuple(patterns)


class Matcher:
    """Patterns, of which the last that matches decides: one with ``!`` takes back what those before it matched.

    A pattern that matches a directory matches all that is below it. For one thread at a time.

    Args:
        patterns: the patterns, in order.

    Raises:
        InvalidValue: one of them can't be right.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._runs = [
            (negated, _compile(text for _, text in run))
            for negated, run in groupby(_signed(patterns), key=lambda signed: signed[0])
        ]
        self._directories: dict[str, int] = {}

    @property
    def negates(self) -> bool:
        """Whether what is below a directory that matches may not match."""
        return any(negated for negated, _ in self._runs)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._runs)

    def matches(self, path: str | bytes) -> bool:
        """Whether a path matches.

        Args:
            path: relative, without ``.`` and ``..`` and without slashes at its ends.
        """
        if isinstance(path, bytes):
            path = path.decode("utf-8", "surrogateescape")
        if path in ("", "."):
            return False
        above = self._above(path)
        matched = False
        for place, (negated, globs) in enumerate(self._runs):
            # What patterns can't change needn't be asked.
            if negated == matched and (above >> place & 1 or globs.matches(path)):
                matched = not negated
        return matched

    def _above(self, path: str) -> int:
        """Which runs have a pattern that matches one of the directories that a path is in: bit n for run n."""
        cut = path.rfind("/")
        known = self._directories.get(path[:cut]) if cut >= 0 else 0
        if known is not None:
            return known
        if len(self._directories) >= _MAX_DIRECTORIES:
            self._directories.clear()
        found = 0
        end = path.find("/")
        while end >= 0:
            directory = path[:end]
            known = self._directories.get(directory)
            if known is None:
                known = found
                for place, (_, globs) in enumerate(self._runs):
                    if not found >> place & 1 and globs.matches(directory):
                        known |= 1 << place
                self._directories[directory] = known
            found = known
            end = path.find("/", end + 1)
        return found


def _signed(patterns: Sequence[str]) -> Iterator[tuple[bool, str]]:
    """For each pattern, whether it takes back, and what it matches."""
    for text in patterns:
        if not text.strip(SPACE):
            continue
        pattern = _clean(text.strip(SPACE))
        if pattern == "!":
            raise InvalidValue('illegal exclusion pattern: "!"')
        yield pattern.startswith("!"), pattern.removeprefix("!")


def _compile(patterns: Iterable[str]) -> GlobSet:
    try:
        return GlobSet(patterns)
    except GlobError as error:
        raise InvalidValue(str(error)) from error


def _clean(path: str) -> str:
    """Go's filepath.Clean: of leading slashes only one is left."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
