"""Logical lines: what an instruction is written on, with its continuations joined and comments left out.

Source: BuildKit frontend/dockerfile/parser/parser.go (Parse), directives.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from boxship.terminal.govalues import SPACE

from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.source import error_at

_DIRECTIVES = ("syntax", "escape", "check")
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9]*")
_ENDS = "\r\n"
_GO_SPACE = "\t\n\f\r "
"""What ``\\s`` is in Go's regular expressions."""


@dataclass(frozen=True, slots=True)
class LogicalLine:
    """A logical line.

    Attributes:
        span: where it is.
        text: the text, joined.
        comments: the comments right above it.
        gap: there is an empty line between its continuations.
    """

    span: Span
    text: str
    comments: tuple[str, ...] = ()
    gap: bool = False


@dataclass(slots=True)
class LineReader:
    """Reads a Dockerfile from its begin to its end.

    Attributes:
        lines: its physical lines, with their ends.
        escape: the escape character.
        directives: the parser directives, by lower-case name.
    """

    lines: list[str]
    escape: str = "\\"
    directives: dict[str, str] = field(default_factory=dict)
    _at: int = 0

    def read_directives(self) -> None:
        """Take the directives: comments ``# name=value`` at the very top, before any other line.

        Raises:
            DockerfileError: there is one twice, or the escape character isn't one.
        """
        while self._at < len(self.lines):
            found = _directive(self.lines[self._at])
            if found is None:
                return
            self._at += 1
            name, value = found
            if name in self.directives:
                raise self._error(f"only one {name} parser directive can be used")
            if name == "escape":
                if value not in ("\\", "`"):
                    raise self._error(f"invalid escape token '{value}' does not match ` or \\")
                self.escape = value
            self.directives[name] = value

    def logical(self) -> Iterator[LogicalLine]:
        """The logical lines; between two of them ``until`` may take physical ones."""
        comments: list[str] = []
        while self._at < len(self.lines):
            start = self._at
            line = self._take().lstrip(SPACE)
            if line.startswith("#"):
                # An empty comment parts those above it from what is below.
                if comment := line[1:].strip(SPACE):
                    comments.append(comment)
                else:
                    comments.clear()
                continue
            if not line:
                comments.clear()
                continue
            text, gap = self._continued(line)
            if text.strip(SPACE):
                yield LogicalLine(Span(start + 1, self._at), text, tuple(comments), gap)
            comments.clear()

    def until(self, terminator: str, *, strip_tabs: bool) -> list[str] | None:
        """The physical lines, with their ends, before one that is the terminator, which is taken too; None if there is none.

        Args:
            terminator: the line.
            strip_tabs: tabs before it don't count.
        """
        start = self._at
        while self._at < len(self.lines):
            line = self._take()
            if (line.lstrip("\t") if strip_tabs else line) == terminator:
                return self.lines[start : self._at - 1]
        return None

    @property
    def number(self) -> int:
        """The number of the last line that was taken."""
        return self._at

    def _take(self) -> str:
        line = self.lines[self._at].rstrip(_ENDS)
        self._at += 1
        return line

    def _continued(self, line: str) -> tuple[str, bool]:
        """A line joined with those that continue it, and whether there was an empty one between them."""
        text, more = self._cut(line)
        parts = [text]
        gap = False
        while more and self._at < len(self.lines):
            line = self._take()
            bare = line.lstrip(SPACE)
            if bare.startswith("#"):
                continue
            if not bare:
                gap = True
                continue
            text, more = self._cut(line)
            parts.append(text)
        return "".join(parts), gap

    def _cut(self, line: str) -> tuple[str, bool]:
        """A line without the character that continues it, and whether it has one; one that is itself escaped isn't that."""
        stripped = line.rstrip(" \t")
        if stripped.endswith(self.escape) and not stripped.endswith(self.escape * 2):
            return stripped[:-1], True
        return line, False

    def _error(self, message: str) -> Exception:
        return error_at(self.lines, Span(self._at, self._at), message)


def _directive(line: str) -> tuple[str, str] | None:
    bare = line.rstrip(_ENDS).lstrip(SPACE)
    if not bare.startswith("#"):
        return None
    name, equals, value = bare[1:].lstrip(SPACE).partition("=")
    name, value = name.rstrip(_GO_SPACE), value.strip(_GO_SPACE)
    if not equals or not value or not _NAME.fullmatch(name) or name.lower() not in _DIRECTIVES:
        return None
    return name.lower(), value
