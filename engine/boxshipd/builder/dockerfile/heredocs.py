"""Heredocs: ``<<NAME`` in RUN, COPY and ADD, with what follows the instruction up to a line that is the name.

Source: BuildKit frontend/dockerfile/parser/parser.go (heredocsFromLine, heredocFromMatch).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from boxshipd.builder.dockerfile.instructions import Heredoc
from boxshipd.builder.dockerfile.words import Words
from boxshipd.builder.errors import DockerfileError

KEYWORDS = ("ADD", "COPY", "RUN")
"""Those that can have heredocs."""

_HEREDOC = re.compile(r"([0-9]*)<<(-?)([^<]+)")
_LEADING_TABS = re.compile(r"^\t+", re.MULTILINE)

# A backslash escapes here, whatever the file's own escape character is: heredocs are the shell's.
_LINE = Words(keep_quotes=True, keep_escapes=True, keep_unset=True)
_NAME = Words(keep_unset=True)
_NAME_AS_WRITTEN = Words(keep_quotes=True, keep_unset=True)


def announced(line: str) -> list[Heredoc]:
    """The heredocs that a line has, in order, without their content.

    A line whose quotes aren't closed has none: the shell will say so.
    """
    if "<<" not in line:
        return []
    try:
        words, _ = _LINE.split(line, {})
    except DockerfileError:
        return []
    return [found for found in map(heredoc, words) if found is not None]


def heredoc(word: str) -> Heredoc | None:
    """The heredoc that a word is, without its content; None if it is none."""
    found = _HEREDOC.fullmatch(word)
    if found is None:
        return None
    try:
        names, _ = _NAME.split(found[3], {})
        written, _ = _NAME_AS_WRITTEN.split(found[3], {})
    except DockerfileError:
        return None
    if len(names) != 1 or len(written) != 1:
        return None
    return Heredoc(
        name=names[0],
        content="",
        expand=_quotes(names[0]) == _quotes(written[0]),
        strip_tabs=bool(found[2]),
        descriptor=int(found[1][:9] or 0),
    )


def content(lines: Sequence[str], *, strip_tabs: bool) -> str:
    """What a heredoc's lines are together."""
    text = "".join(lines)
    return _LEADING_TABS.sub("", text) if strip_tabs else text


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
