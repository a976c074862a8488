"""Wildcards, as Go's filepath.Match has them."""

import time

import pytest
from boxshipd.builder.ops.files_match import Pattern, has_wildcards


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "ab", False),
        ("", "", True),
        ("*", "", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ba", False),
        ("a*b*c*d*e*", "axbxcxdxexxx", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "z", False),
        ("[]a]", "]", False),
        ("[-]", "-", False),
        ("[x-]", "x", False),
        ("[a-b-c]", "a", False),
        ("[", "a", False),
        ("[^", "a", False),
        ("[^bc", "a", False),
        ("a[", "a", False),
        ("a[", "ab", False),
        ("*x", "xxx", True),
        ("a\\", "a", False),
        ("?", "\udcff", True),
    ],
)
def test_as_gos(pattern, name, expected):
    assert Pattern(pattern).matches(name) is expected


def test_no_pattern_takes_long():
    pattern = Pattern("*a" * 100 + "b")
    began = time.process_time()
    for _ in range(20):
        assert not pattern.matches("a" * 255)
    assert time.process_time() - began < 5


def test_what_is_a_pattern():
    assert [has_wildcards(each) for each in ("a*", "?", "[a]", "\\*", "a\\[b", "plain", "\\\\*", "")] == [
        True,
        True,
        True,
        False,
        False,
        False,
        True,
        False,
    ]
