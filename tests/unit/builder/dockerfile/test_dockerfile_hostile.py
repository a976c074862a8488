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
LINES = MIB // 4
"""Bytes of many lines."""


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
    assert len(parse(text).stages[0].instructions) == 10_000
    assert seconds(text) < 1


@pytest.mark.parametrize(
    "text",
    [
        b"FROM a\nRUN " + b"x" * MIB,
        b"FROM a\nENV a=" + b"x " * (MIB // 2),
        b"FROM a\nENV " + b"a=b " * (MIB // 4),
        b"FROM a\nENV a=" + b'"x' * (MIB // 2),
        b"FROM a\nENV a=" + b"\\" * MIB,
        b"FROM a\nRUN " + b" " * MIB + b"x",
        b"FROM a\nRUN " + b"\\ " * (MIB // 2) + b"x",
        b"FROM a\nRUN " + b"--mount=x " * (MIB // 10),
        b"FROM a\nRUN " + b"<<a " * (MIB // 8),
        b"FROM a\nRUN x <<" + b"$" * MIB,
        b"FROM a\nCOPY " + b"a " * (MIB // 2),
        b"FROM a\nCMD " + b"[" * MIB,
        b'FROM a\nCMD ["' + b'a", "' * (MIB // 5) + b'"]',
        b"FROM a\nRUN x " + b"\\\n" * (MIB // 2) + b"y",
        b"FROM a\nRUN x \\\n" + b"#\n" * (MIB // 2) + b"y",
        b"#" * MIB + b"\nFROM a",
        b"# x\n" * (MIB // 4) + b"FROM a AS b",
        b"# escape=" + b" " * MIB + b"\\\nFROM a",
        b"#" + b" " * MIB + b"escape\nFROM a",
        b"FROM a\nRUN <<E\n" + b"\tx\n" * (LINES // 3),
        b"FROM a\n" + b"RUN <<E\nE\n" * (LINES // 10),
        b"FROM a AS " + b"a" * MIB + b"!",
        b"FROM a\nBAD" + b"x" * MIB,
        b"FROM a\n" + b"x" * MIB,
        b"FROM a\nONBUILD " + b"RUN " * (MIB // 4),
        b"FROM a AS b\n" * (LINES // 12),
        b"\0" * MIB,
        b"\xff" * MIB,
        b"\n" * MIB,
        b"FROM a\n" + b"\r" * MIB,
    ],
)
@pytest.mark.timeout(60)
def test_no_line_and_no_number_of_lines_takes_long(text):
    assert seconds(text) < 8


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
