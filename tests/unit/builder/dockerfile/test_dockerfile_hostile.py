"""Dockerfiles that mean harm: large ones, and ones that could take forever."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from boxshipd.builder.dockerfile.lint import Linter
from boxshipd.builder.dockerfile.parser import parse
from boxshipd.builder.dockerfile.source import MAX_SIZE
from boxshipd.builder.errors import DockerfileError
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1024 * 1024
PIECE = MIB // 4
"""Bytes of something: what takes the square of that long takes minutes."""


def seconds(text):
    start = time.thread_time()
    try:
        parse(text, Linter("experimental=all"))
    except DockerfileError:
        pass
    return time.thread_time() - start


def test_ten_thousand_lines_take_less_than_a_second():
    text = b"FROM a\n" + b"".join(
        b'RUN --mount=type=cache,target=/c echo %d $x "a b"\nENV a%d=b c="d e"\n' % (n, n) for n in range(5000)
    )
    start = time.thread_time()
    file = parse(text, Linter("experimental=all"))
    assert time.thread_time() - start < 1
    assert len(file.stages[0].instructions) == 10_000


@pytest.mark.parametrize(
    "text",
    [
        b"FROM a\nRUN " + b"x" * MIB,
        b"FROM a\nENV a=" + b"x " * (PIECE // 2),
        b"FROM a\nENV " + b"a=b " * (PIECE // 4),
        b"FROM a\nENV a=" + b'"x' * (PIECE // 2),
        b"FROM a\nENV a=" + b"\\" * PIECE,
        b"FROM a\nRUN " + b" " * PIECE + b"x",
        b"FROM a\nRUN " + b"\\ " * (PIECE // 2) + b"x",
        b"FROM a\nRUN " + b"--mount=x " * (PIECE // 10),
        b"FROM a\nRUN " + b"<<a " * (PIECE // 8),
        b"FROM a\nRUN x <<" + b"$" * PIECE,
        b"FROM a\nCOPY " + b"a " * (PIECE // 2),
        b"FROM a\nCMD " + b"[" * PIECE,
        b'FROM a\nCMD ["' + b'a", "' * (PIECE // 5) + b'"]',
        b"FROM a\nRUN x " + b"\\\n" * (PIECE // 2) + b"y",
        b"FROM a\nRUN x \\\n" + b"#\n" * (PIECE // 2) + b"y",
        b"#" * PIECE + b"\nFROM a",
        b"# x\n" * (PIECE // 4) + b"FROM a AS b",
        b"# escape=" + b" " * PIECE + b"\\\nFROM a",
        b"#" + b" " * PIECE + b"escape\nFROM a",
        b"FROM a\nRUN <<E\n" + b"\tx\n" * (PIECE // 3),
        b"FROM a\n" + b"RUN <<E\nE\n" * (PIECE // 10),
        b"FROM a AS " + b"a" * PIECE + b"!",
        b"FROM a\nBAD" + b"x" * PIECE,
        b"FROM a\n" + b"x" * PIECE,
        b"FROM a\nONBUILD " + b"RUN " * (PIECE // 4),
        b"FROM a AS b\n" * (PIECE // 12),
        b"\0" * PIECE,
        b"\xff" * PIECE,
        b"\n" * PIECE,
        b"FROM a\n" + b"\r" * PIECE,
    ],
)
@pytest.mark.timeout(60)
def test_no_line_and_no_number_of_lines_takes_long(text):
    assert seconds(text) < 10


def test_size_is_bounded():
    with pytest.raises(DockerfileError, match=f"^the Dockerfile is larger than {MAX_SIZE} bytes$"):
        parse(b"#" * (MAX_SIZE + 1))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["a",['])
def test_deep_json_is_for_the_shell_or_an_error(opening):
    text = b"FROM a\nCMD " + opening * 100_000
    assert parse(text).stages[0].instructions[0].command.shell


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(text):
    try:
        file = parse(b"FROM a\n" + text)
    except DockerfileError as error:
        assert 0 <= error.first <= error.last  # noqa: PT017
        return
    assert file.stages


SOME_LINES = st.sampled_from(
    [
        *("FROM a", "from b AS c", "RUN x \\", "  y", "# z", "", "ENV a=b \\", "COPY <<E /x", "E", "RUN <<-'E' <<F", "\tE"),
        *("F", "ARG a=$b", "# escape=`", "# check=skip=all", 'CMD ["a"]', "ONBUILD RUN <<E", "LABEL a b", "BAD", "`", "\\"),
    ]
)


@settings(deadline=None)
@given(st.lists(SOME_LINES, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_lines_of_instructions_are_in_order_and_within_the_file(lines, end):
    try:
        file = parse(end.join(lines).encode())
    except DockerfileError as error:
        assert 0 <= error.first <= error.last <= len(lines)  # noqa: PT017
        return
    spans = [each.span for stage in file.stages for each in (stage.source, *stage.instructions)]
    assert all(one.last < other.first for one, other in pairwise(spans))
    assert all(1 <= span.first <= span.last <= len(file.lines) for span in spans)
