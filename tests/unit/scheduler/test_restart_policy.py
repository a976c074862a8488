"""Restart policies and timers."""

from __future__ import annotations

import asyncio

import pytest
from boxship.types.host import RestartPolicy
from boxshipd.errors import InvalidParameter
from boxshipd.scheduler.restart import Backoff, validate_policy, wants_restart
from boxshipd.scheduler.timers import Timers


def test_delays_double_to_a_minute_and_begin_again_after_a_steady_life():
    backoff = Backoff()
    delays = [backoff.next(0.5) for _ in range(12)]
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60
    assert backoff.next(9.9) == 60
    assert backoff.next(10) == 0.1
    assert backoff.next(0) == 0.2
    backoff.reset()
    assert backoff.next(0) == 0.1


@pytest.mark.parametrize(
    ("policy", "exit_code", "count", "stopped", "expected"),
    [
        ("no", 1, 0, False, False),
        ("", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 0, 0, True, True),
        ("unless-stopped", 0, 0, False, True),
        ("unless-stopped", 0, 0, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 2, False, True),
        ("on-failure", 1, 3, False, False),
    ],
)
def test_policies(policy, exit_code, count, stopped, expected):
    maximum = 3 if policy == "on-failure" else 0
    policy = RestartPolicy(name=policy, maximum_retry_count=maximum)
    assert wants_restart(policy, exit_code=exit_code, restart_count=count, manually_stopped=stopped) is expected


def test_on_failure_without_a_maximum_never_gives_up():
    assert wants_restart(RestartPolicy(name="on-failure"), exit_code=1, restart_count=10**6, manually_stopped=False)
    assert not wants_restart(None, exit_code=1, restart_count=0, manually_stopped=False)


@pytest.mark.parametrize(
    ("name", "maximum", "message"),
    [
        ("always", 1, "invalid restart policy: maximum retry count can only be used with 'on-failure'"),
        ("always", -1, "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"),
        ("on-failure", -1, "invalid restart policy: maximum retry count cannot be negative"),
        (
            "sometimes",
            0,
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        ),
    ],
)
def test_impossible_policies_are_refused_in_dockers_words(name, maximum, message):
    with pytest.raises(InvalidParameter) as error:
        validate_policy(RestartPolicy(name=name, maximum_retry_count=maximum))
    assert str(error.value) == message


async def test_timers_fire_once_and_can_be_called_off_or_replaced():
    timers, fired = Timers(), []
    done = asyncio.Event()
    timers.set("a", 0, lambda: fired.append("replaced"))
    timers.set("a", 0, lambda: fired.append("a"))
    timers.set("b", 0, lambda: fired.append("b"))
    timers.set("c", 0.01, done.set)
    assert timers.cancel("b") is True
    assert timers.cancel("b") is False
    await asyncio.wait_for(done.wait(), 5)
    assert fired == ["a"]
    assert timers.pending() == ()
    timers.set("d", 60, done.set)
    timers.close()
    assert timers.pending() == ()
