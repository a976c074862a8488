"""Names, signals, times and words."""

from __future__ import annotations

import signal

import pytest
from boxshipd.containers.model import State
from boxshipd.containers.names import make_name, validate_name
from boxshipd.containers.signals import parse_signal
from boxshipd.containers.status_text import human_duration, status_text
from boxshipd.errors import InvalidParameter
from boxshipd.times import parse_moment, rfc3339

SECOND = 10**9


@pytest.mark.parametrize("name", ["ab", "/ab", "A1", "a_b", "a.b-c", "0x"])
def test_names_that_are(name):
    assert validate_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["a", "", "/", "_a", "-a", "a b", "a/b", "a\n", "ä1", "//ab"])
def test_names_that_are_not(name):
    with pytest.raises(InvalidParameter) as error:
        validate_name(name)
    assert str(error.value) == f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"


def test_made_up_names_are_valid_and_free():
    taken: set[str] = set()
    for _ in range(300):
        name = make_name(taken)
        assert name not in taken
        assert validate_name(name) == name
        taken.add(name)


def test_when_all_plain_names_are_taken_a_number_helps():
    class Everything:
        def __contains__(self, name):
            return not name[-1].isdigit()

    assert make_name(Everything())[-1].isdigit()


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("SIGTERM", 15),
        ("term", 15),
        ("15", 15),
        ("sigkill", 9),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX", signal.SIGRTMAX),
    ],
)
def test_signals(text, number):
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "NOSUCH", "SIGSIGTERM", "９"])
def test_no_signals(text):
    with pytest.raises(InvalidParameter) as error:
        parse_signal(text)
    assert str(error.value) == f"invalid signal: {text}"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"),
        (1.9, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (60 * 59, "59 minutes"),
        (3600, "About an hour"),
        (3600 * 47, "47 hours"),
        (3600 * 24 * 13, "13 days"),
        (3600 * 24 * 21, "3 weeks"),
        (3600 * 24 * 90, "3 months"),
        (3600 * 24 * 365 * 3, "3 years"),
    ],
)
def test_durations(seconds, words):
    assert human_duration(seconds) == words


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        (State(), "created", "Created"),
        (State(running=True, started_at=97 * SECOND), "running", "Up 3 seconds"),
        (
            State(running=True, restarting=True, exit_code=1, started_at=1, finished_at=95 * SECOND),
            "restarting",
            "Restarting (1) 5 seconds ago",
        ),
        (State(exit_code=0, started_at=1, finished_at=99 * SECOND), "exited", "Exited (0) 1 second ago"),
        (State(removing=True, started_at=1), "removing", "Removal In Progress"),
        (State(dead=True, started_at=1), "dead", "Dead"),
    ],
)
def test_states_in_words(state, status, words):
    assert state.status == status
    assert status_text(state, 100 * SECOND) == words


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "0001-01-01T00:00:00Z"),
        (SECOND, "1970-01-01T00:00:01Z"),
        (SECOND + 500_000_000, "1970-01-01T00:00:01.5Z"),
        (SECOND + 10, "1970-01-01T00:00:01.00000001Z"),
    ],
)
def test_times_as_go_writes_them(moment, text):
    assert rfc3339(moment) == text


def test_moments():
    assert parse_moment("12.5") == 12_500_000_000
    assert parse_moment("1970-01-01T00:00:02+00:00") == 2 * SECOND
    assert parse_moment("10m") - parse_moment("1h10m") >= 3600 * SECOND - SECOND
    for text in ("", "x", "5", "1x", "h"):
        if text != "5":
            with pytest.raises(InvalidParameter):
                parse_moment(text or "?")
