"""Help: what it shows of each command."""

from __future__ import annotations

import pytest
from boxship.cli import help as help_module
from boxship.cli.flags import Absent
from boxship.cli.help import help_text
from boxship.cli.registry import GROUPS, HIDDEN, TOP, load


def section(text: str, title: str) -> list[str]:
    """The names in one of the help's lists."""
    lines = text.partition(f"\n{title}:\n")[2].partition("\n\n")[0].splitlines()
    return [line[2:] for line in lines if line[2:3].strip()]


def test_the_programs_help_has_every_command_and_group():
    text = help_text([])
    assert text.startswith("Usage: boxship [OPTIONS] COMMAND [ARG...]\n\n")
    assert [row.split()[0] for row in section(text, "Commands")] == [*TOP, *GROUPS]
    assert any(row.startswith("-H, --host list ") for row in section(text, "Options"))


@pytest.mark.parametrize("group", GROUPS)
def test_a_groups_help_has_its_commands(group):
    text = help_text([group])
    assert text.startswith(f"Usage: boxship {group} COMMAND\n\n  {GROUPS[group][0]}\n")
    assert [row.split()[0] for row in section(text, "Commands")] == [name for name in GROUPS[group][1] if name not in HIDDEN]


@pytest.mark.parametrize(
    "words", [[name] for name in TOP] + [[g, name] for g, (_, e) in GROUPS.items() for name in e], ids=" ".join
)
def test_a_commands_help_has_its_flags_but_for_those_that_are_refused(words):
    command = load(TOP[words[0]] if len(words) == 1 else GROUPS[words[0]][1][words[1]])
    text = help_text(words)
    assert text.startswith(f"Usage: boxship {' '.join(words)} {command.usage or '[OPTIONS]'}\n")
    shown = [next(word for word in row.split() if word.startswith("--")) for row in section(text, "Options")]
    flags = [f for f in command.options.flags.values() if not f.hidden and not isinstance(f, Absent)]
    assert shown == [*(f"--{flag.name}" for flag in flags), "--help"]
    assert all(len(line) <= 78 or " " not in line.strip() for line in text.splitlines()[2:])


def test_a_narrow_terminal_gets_every_word(monkeypatch):
    wide = help_text(["build"]).split()
    monkeypatch.setattr(help_module, "_width", lambda: 30)
    assert help_text(["build"]).split() == wide
