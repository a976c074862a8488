"""Help, made from the same declarations that the parser reads.

Rendered here: what a library needs to be imported for it takes ten times as long as all else that ``--help`` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from boxship.cli.command import Command, GlobalOptions
from boxship.cli.flags import Absent, Flag, Options
from boxship.cli.registry import GROUPS, HIDDEN, TOP, load

PROGRAM = "boxship"
_WIDEST = 80
_WIDEST_NAME = 30
_SUMMARY = "A container engine that speaks Docker's language."


def help_text(words: list[str]) -> str:
    """What ``--help`` shows.

    Args:
        words: the command's words without the program's name; none for the whole program.
    """
    if not words:
        groups = ((name, summary) for name, (summary, _) in GROUPS.items())
        return _page("[OPTIONS] COMMAND [ARG...]", [], [_SUMMARY], GlobalOptions, [*_summaries(TOP), *groups])
    if len(words) == 1 and words[0] in GROUPS:
        summary, entries = GROUPS[words[0]]
        return _page("COMMAND", words, [summary], Options, _summaries(entries))
    entry = TOP[words[0]] if len(words) == 1 else GROUPS[words[0]][1][words[1]]
    command: Command[Any] = load(entry)
    texts = [command.summary, *([command.description] if command.description else [])]
    return _page(command.usage or "[OPTIONS]", words, texts, command.options, ())


def _summaries(entries: dict[str, tuple[str, str, str]]) -> list[tuple[str, str]]:
    return [(name, summary) for name, (_, _, summary) in entries.items() if name not in HIDDEN]


def _page(usage: str, words: list[str], texts: list[str], options: type[Options], commands: Iterable[tuple[str, str]]) -> str:
    width = _width()
    shown = [flag for flag in options.flags.values() if not flag.hidden and not isinstance(flag, Absent)]
    flags = [(_spelling(flag), flag.help + (f" (default {flag.shown})" if flag.shown else "")) for flag in shown]
    sections = [f"Usage: {' '.join((PROGRAM, *words))} {usage}\n"]
    sections += [_filled(text, width, "  ") for text in texts]
    sections.append(_columns("Options", [*flags, ("--help", "Show this message and exit.")], width))
    if rows := list(commands):
        sections.append(_columns("Commands", rows, width))
    return "\n".join(sections)


def _width() -> int:
    try:
        columns = os.get_terminal_size(1).columns or _WIDEST
    except OSError:
        columns = _WIDEST
    return min(columns, _WIDEST) - 2


def _spelling(flag: Flag[Any]) -> str:
    short = f"-{flag.short}, " if flag.short else ""
    return f"{short}--{flag.name} {flag.shown_kind}".rstrip()


def _columns(title: str, rows: list[tuple[str, str]], width: int) -> str:
    """Two columns, the second of which is wrapped; a name that is too long for the first stands alone."""
    first = min(max(len(name) for name, _ in rows), _WIDEST_NAME) + 4
    lines = [f"{title}:\n"]
    for name, text in rows:
        head = f"  {name}"
        if len(head) > first - 2:
            lines.append(f"{head}\n")
            head = ""
        lines.append(_filled(text, width, " " * first, head.ljust(first)))
    return "".join(lines)


def _filled(text: str, width: int, indent: str, head: str | None = None) -> str:
    """Text in lines no wider than the terminal, all behind ``indent``, the first behind ``head``."""
    lines = [indent if head is None else head]
    length = len(lines[0])
    for word in text.split():
        if length > len(indent) and length + 1 + len(word) > width:
            lines.append(indent)
            length = len(indent)
        lead = " " if length > len(indent) else ""
        lines[-1] += lead + word
        length += len(lead) + len(word)
    return "".join(f"{line}\n" for line in lines)
