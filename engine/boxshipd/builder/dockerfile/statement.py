"""One instruction before it is typed: its keyword, its flags and the rest."""

from __future__ import annotations

from dataclasses import dataclass

from boxship.terminal.govalues import SPACE

from boxshipd.builder.dockerfile.arguments import ArgumentError, json_list, split_keyword
from boxshipd.builder.dockerfile.heredocs import KEYWORDS, announced
from boxshipd.builder.dockerfile.instructions import Heredoc, Span


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction.

    Attributes:
        span: its lines.
        text: all of it on one line.
        written: the keyword as it is written.
        flags: the words that begin with dashes, without quotes.
        rest: what follows them.
        escape: the escape character.
        heredocs: the heredocs that it has.
    """

    span: Span
    text: str
    written: str
    flags: tuple[str, ...]
    rest: str
    escape: str
    heredocs: tuple[Heredoc, ...] = ()

    @classmethod
    def of(cls, text: str, span: Span, escape: str, heredocs: tuple[Heredoc, ...] = ()) -> Statement:
        """The instruction that a line is."""
        written, flags, rest = split_keyword(text)
        return cls(span, text.strip(SPACE), written, tuple(flags), rest, escape, heredocs)

    @property
    def keyword(self) -> str:
        """The keyword in upper case; letters beyond ASCII stay, some of which would become one of its."""
        return self.written.upper() if self.written.isascii() else self.written

    def trigger(self) -> Statement:
        """What an ONBUILD is to do later."""
        return Statement.of(self.rest, self.span, self.escape, self.heredocs)

    def announced(self) -> list[Heredoc]:
        """The heredocs that are to follow the instruction, still empty: the JSON form has none."""
        inner = self.trigger() if self.keyword == "ONBUILD" else self
        if inner.keyword not in KEYWORDS:
            return []
        try:
            is_json = json_list(inner.rest) is not None
        except ArgumentError:
            return []
        return [] if is_json else announced(self.text)
