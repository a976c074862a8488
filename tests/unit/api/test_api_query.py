"""Docker's notations in query parameters."""

import contextlib
from datetime import UTC, datetime

import pytest
from boxshipd.api.query import Query, parse_time_ns
from boxshipd.errors import InvalidParameter
from hypothesis import given
from hypothesis import strategies as st

NOW = 1_700_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "value"),
    [("", False), ("0", False), ("no", False), ("False", False), (" none ", False), ("1", True), ("yes", True), ("x", True)],
)
def test_booleans(text, value):
    assert Query(f"a={text}").boolean("a", default=True) is value


def test_an_absent_boolean_has_its_default():
    assert Query("").boolean("a", default=True)
    assert not Query("b=1").boolean("a")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("1700000000", NOW),
        ("1700000000.5", NOW + SECOND // 2),
        ("1700000000.000000001", NOW + 1),
        ("1700000000.", NOW),
        ("-1", -SECOND),
        ("10m", NOW - 600 * SECOND),
        ("1h30m1.5s", NOW - 5401 * SECOND - SECOND // 2),
        ("0s", NOW),
        ("-10ms", NOW + 10_000_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T23:13:20.25+01:00", NOW + SECOND // 4),
        ("2023-11-14T22:13:20.000000007z", NOW + 7),
        ("2023-11-14T22:13Z", NOW - 20 * SECOND),
        ("2023-11-14Z", int(datetime(2023, 11, 14, tzinfo=UTC).timestamp()) * SECOND),
        ("2023-11-14", int(datetime(2023, 11, 14).astimezone().timestamp()) * SECOND),
        ("2023-11-14T10:00:00", int(datetime(2023, 11, 14, 10).astimezone().timestamp()) * SECOND),
    ],
)
def test_times(text, value):
    assert parse_time_ns(text, NOW) == value


@pytest.mark.parametrize("text", ["soon", "10x", "2023-13-01", "2023-11-14T25:00:00Z", "1.5.5", "--1", "٣", "1h-"])
def test_what_is_no_time(text):
    with pytest.raises(InvalidParameter):
        parse_time_ns(text, NOW)


@given(st.integers(0, 1 << 40), st.integers(0, SECOND - 1))
def test_every_unix_time_comes_back(seconds, nanoseconds):
    assert parse_time_ns(f"{seconds}.{nanoseconds:09}", NOW) == seconds * SECOND + nanoseconds


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text):
    with contextlib.suppress(InvalidParameter):
        assert isinstance(parse_time_ns(text, NOW), int)


@pytest.mark.parametrize(
    ("text", "valid"), [("0", True), ("4294967295", True), ("4294967296", False), ("-1", False), ("", False)]
)
def test_unsigned(text, valid):
    if valid:
        assert Query(f"h={text}").unsigned("h", "height") == int(text)
    else:
        with pytest.raises(InvalidParameter):
            Query(f"h={text}").unsigned("h", "height")
