"""Detach keys in Docker's notation, found whatever the reads are cut into."""

from __future__ import annotations

from itertools import pairwise

import pytest
from boxrun.shim.keys import KeyDetector, parse_keys
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("notation", "codes"),
    [
        ("", b""),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x00\x1b\x1c\x1d\x1e\x1f"),
        ("a,Z,DEL", b"aZ\x7f"),
        ("ctrl-a", b"\x01"),
    ],
)
def test_notation(notation: str, codes: bytes) -> None:
    assert parse_keys(notation) == codes


@pytest.mark.parametrize("notation", ["ctrl-A", "ctrl-1", "abc", "a,", "\u20ac"])
def test_notation_refused(notation: str) -> None:
    with pytest.raises(ValueError, match="Unknown character: '"):
        parse_keys(notation)


def feed(keys: bytes, *reads: bytes) -> tuple[bytes, bool]:
    detector = KeyDetector(keys)
    passed = b""
    for read in reads:
        data, found = detector.feed(read)
        passed += data
        if found:
            return passed, True
    return passed + detector.flush(), False


@pytest.mark.parametrize(
    ("reads", "passed", "found"),
    [
        ((b"ls\r",), b"ls\r", False),
        ((b"\x10\x11",), b"", True),
        ((b"ls\x10", b"\x11rm"), b"ls", True),
        ((b"\x10", b"x"), b"\x10x", False),
        ((b"\x10\x10\x11",), b"\x10", True),
        ((b"\x11\x10",), b"\x11\x10", False),
    ],
)
def test_default_keys(reads: tuple[bytes, ...], passed: bytes, found: bool) -> None:
    assert feed(b"\x10\x11", *reads) == (passed, found)


def test_keys_that_overlap_themselves() -> None:
    assert feed(b"aab", b"aaab") == (b"a", True)
    assert feed(b"abab!", b"ababab!") == (b"ab", True)


@given(st.text("ab", min_size=1, max_size=5), st.text("abc", max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_found_exactly_where_it_first_ends(keys: str, text: str, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reads = [text[start:end].encode() for start, end in pairwise(edges)]
    at = text.find(keys)
    expected = (text.encode(), False) if at < 0 else (text[:at].encode(), True)
    assert feed(keys.encode(), *reads) == expected
