"""Heredocs of RUN, COPY and ADD, and of what ONBUILD does later."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.instructions import Heredoc, Span
from boxshipd.builder.dockerfile.parser import parse, parse_trigger
from boxshipd.builder.errors import DockerfileError


def all_of(text):
    (stage,) = parse(f"FROM a\n{text}".encode()).stages
    return stage.instructions


def test_run_with_a_script():
    run, after = all_of("RUN <<EOF\n# no comment\necho \\\n\n  $x\nEOF\nRUN x")
    assert run.command.args == ("<<EOF",)
    assert run.command.heredocs == (Heredoc(name="EOF", content="# no comment\necho \\\n\n  $x\n"),)
    assert run.span == Span(2, 7)
    assert after.span == Span(8, 8)


def test_run_with_several():
    (run,) = all_of('RUN cat <<A 3<<-"B" > /x && \\\n wc\na\nA\n\t\tb\n\tc\tc\n\tB\n')
    assert run.command.args == ('cat <<A 3<<-"B" > /x &&  wc',)
    assert run.command.heredocs == (
        Heredoc(name="A", content="a\n"),
        Heredoc(name="B", content="b\nc\tc\n", expand=False, strip_tabs=True, descriptor=3),
    )
    assert run.span == Span(2, 8)


def test_copy_makes_files_of_them():
    copy, add = all_of("COPY --chmod=755 <<one.txt a <<'two' /d/\n1\none.txt\n2\ntwo\nADD <<x /y\nx\n")
    assert copy.sources == ("a",)
    assert copy.destination == "/d/"
    assert copy.heredocs == (Heredoc(name="one.txt", content="1\n"), Heredoc(name="two", content="2\n", expand=False))
    assert add.heredocs == (Heredoc(name="x", content=""),)


@pytest.mark.parametrize(
    ("written", "name", "expand"),
    [
        ("<<EOF", "EOF", True),
        ("<<'EOF'", "EOF", False),
        ('<<"E"OF', "EOF", False),
        ("<<E\\OF", "EOF", True),
        ("<<$X", "$X", True),
        ("<<${X:-y}", "${X:-y}", True),
        ('<<"E F"', "E F", False),
    ],
)
def test_names(written, name, expand):
    (run,) = all_of(f"RUN {written}\nx\n{name}\n")
    assert run.command.heredocs == (Heredoc(name=name, content="x\n", expand=expand),)


@pytest.mark.parametrize(
    "line",
    ["echo $((1<<2))", "cat <<<word", "echo '<<EOF'", 'echo "<<EOF"', "echo << EOF", "echo it's <<EOF", 'x"<<EOF'],
)
def test_what_is_none(line):
    (run,) = all_of(f"RUN {line}")
    assert run.command.heredocs == ()


def test_the_json_form_and_other_instructions_have_none():
    run, cmd, copy = all_of('RUN ["cat", "<<EOF"]\nCMD <<EOF\nCOPY ["<<EOF", "/x"]')
    assert run.command.args == ("cat", "<<EOF")
    assert cmd.command.args == ("<<EOF",)
    assert (copy.sources, copy.heredocs) == (("<<EOF",), ())


def test_the_end_has_to_be_the_whole_line():
    (run,) = all_of("RUN <<EOF\n EOF\nEOF \n\tEOF\nEOF\r\n")
    assert run.command.heredocs[0].content == " EOF\nEOF \n\tEOF\n"


def test_ends_of_lines_stay_as_they_are():
    (copy,) = all_of("COPY <<EOF /x\na\r\nb\nEOF")
    assert copy.heredocs[0].content == "a\r\nb\n"


def test_on_build_keeps_them():
    build, _ = all_of("ONBUILD RUN <<A cat <<-B\na\nA\n\tb\n\tB\nRUN x")
    assert build.trigger == "RUN <<A cat <<-B\na\nA\nb\nB"
    assert build.span == Span(2, 6)
    trigger = parse_trigger(build.trigger)
    assert [(each.name, each.content) for each in trigger.command.heredocs] == [("A", "a\n"), ("B", "b\n")]


def test_without_an_end():
    with pytest.raises(DockerfileError, match="dockerfile parse error on line 2: unterminated heredoc") as error:
        all_of("COPY <<EOF /x\nRUN a\nRUN b\n")
    assert (error.value.first, error.value.last) == (2, 4)


def test_what_copy_cant_take():
    with pytest.raises(DockerfileError, match="COPY cannot accept a heredoc as a destination"):
        all_of("COPY a <<EOF\nEOF")
    with pytest.raises(DockerfileError, match="heredoc \"EOF\" has no content: the line's quotes aren't closed"):
        all_of("COPY <<EOF it's /x\nEOF")
