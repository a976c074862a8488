"""A container's health from its probes' results, and when the next probe is due: Docker's rules."""

from __future__ import annotations

import pytest
from boxrun.prober.monitor import Monitor
from boxrun.prober.protocol import MAX_RESULTS, Health, ProbeResult, Schedule
from hypothesis import given
from hypothesis import strategies as st

S = 1_000_000_000


def schedule(**changes: int) -> Schedule:
    return Schedule(
        **({"interval": 30 * S, "timeout": 30 * S, "retries": 3, "start_period": 0, "start_interval": 5 * S} | changes)
    )


def result(exit_code: int, number: int = 0) -> ProbeResult:
    return ProbeResult(start=number, end=number + 1, exit_code=exit_code)


def test_the_first_success_makes_it_healthy():
    monitor = Monitor(schedule(), Health())
    assert monitor.status == "starting"
    assert monitor.take(result(0), 0) is True
    assert monitor.take(result(0), S) is False
    assert (monitor.status, monitor.streak) == ("healthy", 0)


def test_as_many_failures_as_retries_make_it_unhealthy_and_one_success_healthy_again():
    monitor = Monitor(schedule(retries=2), Health())
    assert [monitor.take(result(code), S) for code in (0, 1, 137, 1, 0)] == [True, False, True, False, True]
    assert (monitor.status, monitor.streak) == ("healthy", 0)


def test_failures_in_the_start_period_do_not_count_until_it_has_been_healthy():
    monitor = Monitor(schedule(retries=1, start_period=10 * S), Health())
    assert not any(monitor.take(result(1), age * S) for age in range(10))
    assert (monitor.status, monitor.streak, monitor.count) == ("starting", 0, 10)
    monitor.take(result(0), 9 * S)
    assert monitor.take(result(1), 9 * S) is True
    assert monitor.status == "unhealthy"


def test_the_start_interval_holds_in_the_start_period_while_it_is_starting():
    monitor = Monitor(schedule(start_period=10 * S), Health())
    assert [monitor.interval(age * S) for age in (0, 9, 10)] == [5 * S, 5 * S, 30 * S]
    monitor.take(result(0), 0)
    assert monitor.interval(0) == 30 * S


def test_it_goes_on_from_what_is_known():
    known = Health(status="healthy", streak=2, log=tuple(result(1, number) for number in range(5)), count=17)
    monitor = Monitor(schedule(), known)
    assert monitor.health == known
    assert monitor.take(result(1, 9), S) is True
    assert (monitor.status, monitor.streak, monitor.count) == ("unhealthy", 3, 18)
    assert [entry.start for entry in monitor.log] == [1, 2, 3, 4, 9]


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 30)), max_size=40),
    st.integers(1, 4),
    st.integers(0, 20),
)
def test_the_state_is_what_the_results_say(results, retries, start_period):
    """Against the rules put the other way round: from the history rather than step by step."""
    monitor = Monitor(schedule(retries=retries, start_period=start_period * S), Health())
    told = [monitor.take(result(code, number), age * S) for number, (code, age) in enumerate(results)]
    counted, left_start = [], False
    for code, age in results:
        if code == 0:
            counted.append(True)
            left_start = True
        elif left_start or age >= start_period:
            counted.append(False)
            left_start = left_start or counted[-retries:] == [False] * retries
    streak = next((n for n, good in enumerate(reversed(counted)) if good), len(counted))
    assert monitor.streak == streak
    expected = "unhealthy" if streak >= retries else "healthy" if any(counted) and True in counted else "starting"
    # Between a failure and the threshold it stays what it was.
    if 0 < streak < retries and True not in counted:
        expected = "starting"
    assert monitor.status == expected
    assert len(monitor.log) == min(len(results), MAX_RESULTS)
    assert monitor.count == len(results)
    assert sum(told) <= len(results)


@pytest.mark.parametrize("seed", range(3))
def test_the_log_holds_the_last_results_with_the_oldest_first(seed):
    monitor = Monitor(schedule(), Health())
    for number in range(MAX_RESULTS + seed):
        monitor.take(result(0, number), 0)
    assert [entry.start for entry in monitor.log] == list(range(seed, MAX_RESULTS + seed))
