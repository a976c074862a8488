"""Errors of whole files, and how they are shown."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.dockerfile.parser import parse
from boxshipd.builder.dockerfile.source import error_at, located
from boxshipd.builder.errors import DockerfileError


def failure(text):
    with pytest.raises(DockerfileError) as caught:
        parse(text)
    return caught.value


def test_one_line_is_shown_with_those_around():
    error = failure(b"FROM a\nRUN 1\nRUN 2\nBAD x\nRUN 3\nRUN 4\nRUN 5\n")
    assert (error.first, error.last) == (4, 4)
    assert error.excerpt == "\n".join(
        ["   2 |     RUN 1", "   3 |     RUN 2", "   4 | >>> BAD x", "   5 |     RUN 3", "   6 |     RUN 4"]
    )


def test_several_lines_are_marked_all():
    error = failure(b"FROM a\r\nBAD x \\\r\n y\r\nRUN 3\r\n")
    assert (error.first, error.last) == (2, 3)
    assert error.excerpt == "   1 |     FROM a\n   2 | >>> BAD x \\\n   3 | >>>  y\n   4 |     RUN 3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "file with no instructions"),
        (b"# only\n\n  # comments\n", "file with no instructions"),
        (b"ARG a\n", "dockerfile contains no stages to build"),
    ],
)
def test_files_without_stages(text, message):
    error = failure(text)
    assert (str(error), error.first, error.excerpt) == (message, 0, "")


def test_an_instruction_before_the_first_stage():
    assert str(failure(b"ARG a\nRUN x\nFROM a")) == "dockerfile parse error on line 2: no build stage in current context"


def test_long_lines_are_cut():
    error = failure(b"FROM a\nBAD " + b"x" * 100_000)
    assert len(error.excerpt) < 300
    assert error.excerpt.endswith("x...")


def test_bytes_that_arent_utf8():
    assert failure(b"FROM a\nRUN \xff\n").message == "RUN has bytes that aren't UTF-8"
    assert failure(b"FROM a\nCOPY <<E /x\n\xff\nE\n").message == "heredoc E has bytes that aren't UTF-8"
    file = parse("# Ren\xe9\nFROM a\nMAINTAINER Ren\xe9\nLABEL a=Ren\xe9".encode("latin-1"))
    maintainer, label = file.stages[0].instructions
    assert (maintainer.name, label.pairs[0].value) == ("Ren\ufffd", "Ren\ufffd")


def test_nul_characters():
    assert failure(b"FROM a\nRUN a\0b\n").message == "RUN has a NUL character"
    assert failure(b'FROM a\nCMD ["a", "\\u0000"]').message == "an argument has a NUL character"
    assert failure(b"FROM a\nRUN <<E\n\0\nE\n").message == "heredoc E has a NUL character"
    (copy,) = parse(b"# \0\nFROM a\nCOPY <<E /x\n\0\nE\n").stages[0].instructions
    assert copy.heredocs[0].content == "\0\n"


def test_errors_get_their_place_later():
    lines = ["FROM a", "RUN b"]
    without = DockerfileError("bad")
    assert str(located(without, lines, Span(2, 2))) == "dockerfile parse error on line 2: bad"
    placed = error_at(lines, Span(1, 1), "other")
    assert located(placed, lines, Span(2, 2)) is placed
    assert error_at(lines, Span(7, 7), "x").excerpt == ""
