"""Sizes, durations and times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from boxship import units
from boxship.errors import InvalidValue
from boxship.terminal.detach import DetachKeys, parse_keys
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("0", 0),
        ("1b", 1),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 k", 2048),
    ],
)
def test_sizes(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "-1", "1.2.3", "1x", "m", "1mm"])
def test_what_is_no_size(text):
    with pytest.raises(InvalidValue, match="invalid size"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (999, "999B"), (1000, "1kB"), (1982000, "1.98MB"), (1_000_000_000, "1GB"), (123456789, "123MB")],
)
def test_human_sizes(size, text):
    assert units.human_size(size) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("1s", 10**9),
        ("300ms", 3 * 10**8),
        ("1h30m", 5400 * 10**9),
        ("-1.5s", -15 * 10**8),
        ("1us", 1000),
        ("1.000000001s", 10**9 + 1),
    ],
)
def test_durations(text, nanoseconds):
    assert units.parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "1", "s", "1x", "1s2", "-", "1.2.3s"])
def test_what_is_no_duration(text):
    with pytest.raises(InvalidValue):
        units.parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (3600 * 5, "5 hours"),
        (3600 * 48, "2 days"),
        (3600 * 24 * 14, "2 weeks"),
        (3600 * 24 * 61, "2 months"),
        (3600 * 24 * 365 * 3, "3 years"),
    ],
)
def test_durations_in_words(seconds, words):
    assert units.human_duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("2026-11-23T22:21:16.664065222Z", 1795472476.664065222),
        ("2026-11-23T23:21:16+01:00", 1795472476.0),
    ],
)
def test_times(text, seconds):
    assert units.parse_time(text) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", ""), ("1795472476", "1795472476"), ("10m", "400.000000000"), ("1970-01-01T00:00:01Z", "1.000000000")],
)
def test_moments(text, expected):
    assert units.moment(text, now=1000.0) == expected


def test_what_is_no_moment():
    with pytest.raises(InvalidValue, match="failed to parse"):
        units.moment("yesterday")


@pytest.mark.parametrize(
    ("text", "keys"),
    [("ctrl-p,ctrl-q", b"\x10\x11"), ("a,b", b"ab"), ("ctrl-@", b"\0"), ("ctrl-[,ctrl-]", b"\x1b\x1d"), ("ctrl-A", b"\x01")],
)
def test_detach_keys_are_parsed(text, keys):
    assert parse_keys(text) == keys


@pytest.mark.parametrize("text", ["", "ab", "ctrl-1", "ctrl-", "a,,b"])
def test_detach_keys_that_are_none(text):
    with pytest.raises(InvalidValue, match="invalid detach keys"):
        parse_keys(text)


@given(st.binary(max_size=40), st.lists(st.integers(0, 40), max_size=4))
def test_what_is_typed_is_passed_on_but_for_the_sequence(data, cuts):
    keys = b"\x10\x11"
    detector = DetachKeys(keys)
    passed, detached = b"", False
    bounds = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    for start, end in pairwise(bounds):
        piece, detached = detector.feed(data[start:end])
        passed += piece
        if detached:
            break
    at = data.find(keys)
    if at >= 0:
        assert detached
        assert passed == data[:at]
    else:
        assert not detached
        held = data[-1:] if data.endswith(keys[:1]) else b""
        assert passed + held == data
