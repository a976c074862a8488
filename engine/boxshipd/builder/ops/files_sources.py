"""What COPY and ADD take of a tree: its sources, with wildcards, and of a directory what isn't excluded.

Source: BuildKit solver/llbsolver/file/backend.go, frontend/dockerfile/dockerfile2llb/convert_copy.go; fsutil copy/copy.go.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.graph import Copy
from boxshipd.builder.ops.files_match import expand, has_wildcards
from boxshipd.builder.results import Entry, Tree

_PIVOT = "/./"


class Pick(NamedTuple):
    """A source.

    Attributes:
        entry: what it is, once links are followed.
        name: what it is called where it goes into a directory.
        include: patterns, relative to it, of what is taken of it; none for all.
    """

    entry: Entry
    name: bytes
    include: tuple[str, ...] = ()


class Content(NamedTuple):
    """Something in a directory that is copied.

    Attributes:
        path: relative to the directory.
        entry: what it is.
        passage: it is there only for what is in it.
    """

    path: bytes
    entry: Entry
    passage: bool = False


class Selection:
    """What one action takes.

    Args:
        action: the action.
        tree: what it takes from.
        missing: makes the error for a source that isn't there.
        check: called for each file; it may raise to end the work.
    """

    def __init__(
        self,
        action: Copy,
        tree: Tree,
        missing: Callable[[str], SourceMissing],
        check: Callable[[], None],
    ) -> None:
        self._action = action
        self._tree = tree
        self._missing = missing
        self._check = check
        self._exclude = Matcher(action.exclude) if action.exclude else None
        # Without exceptions nothing of an excluded directory is taken.
        self._exceptions = any(pattern.lstrip().startswith("!") for pattern in action.exclude)

    def picks(self) -> Iterator[Pick]:
        """The sources, in order. One with wildcards may be none at all.

        Raises:
            SourceMissing: one without isn't there.
        """
        for source in self._action.sources:
            if self._action.parents:
                yield from self._with_parents(source)
            else:
                yield from self._named(source)

    def contents(self, pick: Pick) -> Iterator[Content]:
        """What is taken of a directory, directories before what is in them."""
        include = Matcher(pick.include) if pick.include else None
        fixed = _fixed(pick.include)
        prefix = len(pick.entry.path) + 1 if pick.entry.path else 0
        waiting: list[Content] = []
        pending = [(iter(self._tree.children(pick.entry.path)), 0)]
        while pending:
            entry = next(pending[-1][0], None)
            if entry is None:
                del waiting[pending.pop()[1] :]
                continue
            self._check()
            path = entry.path[prefix:]
            depth = len(pending) - 1
            if depth < len(fixed) and path.rpartition(b"/")[2] != fixed[depth]:
                continue
            excluded = self._exclude is not None and self._exclude.matches(os.fsdecode(path))
            taken = not excluded and (include is None or include.matches(os.fsdecode(path)))
            if taken:
                yield from waiting
                waiting.clear()
                yield Content(path, entry)
            if entry.kind == "directory" and (self._exceptions or not excluded):
                pending.append((iter(self._tree.children(entry.path)), len(waiting)))
                if not taken:
                    waiting.append(Content(path, entry, passage=True))

    def _named(self, source: str) -> Iterator[Pick]:
        path = posixpath.normpath("/" + source.lstrip("/")).lstrip("/")
        components = path.split("/") if path else []
        first = next((place for place, each in enumerate(components) if has_wildcards(each)), len(components))
        top = self._tree.resolve(os.fsencode("/".join(components[:first])))
        if first < len(components):
            for found in expand(self._tree, top, components[first:], self._check):
                name = found.path.rpartition(b"/")[2]
                entry = self._tree.entry(self._tree.resolve(found.path))
                if entry is None:
                    raise self._missing(os.fsdecode(found.path))
                if not self._is_excluded(name):
                    yield Pick(entry, name)
            return
        entry = self._tree.entry(top)
        if entry is None:
            raise self._missing(source)
        name = os.fsencode(components[-1]) if components else b""
        if entry.kind == "directory" or not self._is_excluded(name):
            yield Pick(entry, name)

    def _is_excluded(self, name: bytes) -> bool:
        return self._exclude is not None and self._exclude.matches(os.fsdecode(name))

    def _with_parents(self, source: str) -> Iterator[Pick]:
        pivot, found, pattern = source.partition(_PIVOT)
        if not found:
            pivot, pattern = "/", source
        pattern = posixpath.normpath("/" + pattern.lstrip("/")).lstrip("/")
        if not any(map(has_wildcards, (*pivot.split("/"), *pattern.split("/")))):
            path = posixpath.normpath(f"/{pivot}/{pattern}").lstrip("/")
            if self._tree.entry(self._tree.resolve(os.fsencode(path))) is None:
                raise self._missing(source)
        for pick in self._named(pivot):
            yield pick._replace(include=(pattern,) if pattern else ())


def _fixed(include: Sequence[str]) -> list[bytes]:
    """The directories that everything included is in: whole trees needn't be gone through for one file."""
    if len(include) != 1:
        return []
    components = include[0].split("/")
    count = next((place for place, each in enumerate(components) if has_wildcards(each) or "\\" in each), len(components))
    return [os.fsencode(each) for each in components[:count]]
