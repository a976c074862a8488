"""Physical lines to logical ones: directives, comments, continuations, ends of lines."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.parser import parse
from boxshipd.builder.errors import DockerfileError


def instructions(text, linter=None):
    (stage,) = parse(text.encode(), linter).stages
    return stage.instructions


def command(text):
    (run,) = instructions(text)
    return run.command.args[0]


def test_directives_are_comments_at_the_very_top():
    file = parse(b"# syntax=docker/dockerfile:1.7-labs\n#Check = skip=all \n# escape=`\nFROM a\nRUN echo a \\\n")
    assert file.directives == {"syntax": "docker/dockerfile:1.7-labs", "check": "skip=all", "escape": "`"}
    assert file.escape == "`"
    assert file.stages[0].instructions[0].command.args == ("echo a \\",)


@pytest.mark.parametrize(
    "before",
    ["\n", "# a comment\n", "# unknown=x\n", "ARG a\n", "# escape\n", "#!/bin/sh\n", "# es cape=`\n"],
    ids=["blank", "comment", "unknown", "instruction", "without value", "shebang", "no name"],
)
def test_what_is_below_anything_else_is_no_directive(before):
    file = parse(f"{before}# escape=`\nFROM a\n".encode())
    assert file.directives == {}
    assert file.escape == "\\"


def test_directives_that_are_wrong():
    with pytest.raises(DockerfileError, match="only one escape parser directive can be used") as twice:
        parse(b"# escape=`\n# Escape=`\nFROM a")
    assert (twice.value.first, twice.value.last) == (2, 2)
    with pytest.raises(DockerfileError, match="invalid escape token 'x' does not match ` or"):
        parse(b"#escape=x\nFROM a")


def test_continuations_are_joined_and_keep_their_indentation():
    assert command("FROM a\nRUN a \\\n  b\\\n\tc") == "a   b\tc"


def test_white_space_may_follow_what_continues_a_line():
    assert command("FROM a\nRUN a \\ \t \n b") == "a  b"


def test_an_escaped_escape_continues_nothing():
    first, second = instructions("FROM a\nRUN a \\\\\nRUN b")
    assert (first.command.args, second.command.args) == (("a \\\\",), ("b",))


def test_comments_between_continuations_are_left_out():
    assert command("FROM a\nRUN a \\\n# one\n   # two \\\n b") == "a  b"


def test_a_hash_within_a_line_begins_no_comment():
    assert command("FROM a\nRUN a # b") == "a # b"


def test_a_comment_doesnt_continue():
    assert command("FROM a\n# comment \\\nRUN b") == "b"


def test_empty_lines_between_continuations_are_told_of():
    linter = Linter()
    (run,) = instructions("FROM a\nRUN a \\\n\n \\\n  \t\n b\n", linter)
    assert run.command.args == ("a   b",)
    assert run.span == Span(2, 6)
    assert [(found.rule, found.line) for found in linter.warnings] == [("NoEmptyContinuation", 6)]


def test_a_line_may_continue_into_the_end_of_the_file():
    assert command("FROM a\nRUN a \\\n") == "a"


def test_a_lone_escape_is_nothing():
    assert command("FROM a\n\\\nRUN a\n\\") == "a"


def test_carriage_returns_are_ends_of_lines():
    assert command("FROM a\r\nRUN a \\\r\n b\r\n") == "a  b"


def test_a_byte_order_mark_is_no_part_of_the_text():
    file = parse(b"\xef\xbb\xbf# escape=`\nFROM a")
    assert file.escape == "`"


def test_the_backtick_escapes_instead_of_the_backslash():
    (run,) = instructions("# escape=`\nFROM a\nRUN dir C:\\`\n  x\n")
    assert run.command.args == ("dir C:\\  x",)


def test_instructions_know_their_lines():
    file = parse(b"# syntax=x\n\nARG a\nFROM \\\n b\n\nRUN x\nRUN \\\n y \\\n z\n")
    assert file.arguments[0].span == Span(3, 3)
    assert file.stages[0].source.span == Span(4, 5)
    assert [each.span for each in file.stages[0].instructions] == [Span(7, 7), Span(8, 10)]
    assert file.stages[0].instructions[1].text == "RUN  y  z"
    assert file.lines[3:5] == ("FROM \\", " b")
