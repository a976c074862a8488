"""What a configuration says of a health check: validation, merging with the image, defaults; and how results are worded."""

from __future__ import annotations

import pytest
from boxrun.prober import words
from boxrun.prober.protocol import Health
from boxship.types.containers import ContainerConfig, HealthConfig
from boxship.types.host import HostConfig
from boxshipd.containers.model import State
from boxshipd.containers.status_text import status_text
from boxshipd.errors import InvalidParameter
from boxshipd.health import settings
from msgspec import UNSET

S = 1_000_000_000


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("interval", "Interval in Healthcheck cannot be less than 1ms"),
        ("timeout", "Timeout in Healthcheck cannot be less than 1ms"),
        ("start_period", "StartPeriod in Healthcheck cannot be less than 1ms"),
        ("start_interval", "StartInterval in Healthcheck cannot be less than 1ms"),
    ],
)
def test_times_below_a_millisecond_are_refused(field, message):
    for value in (1, 999_999, -1):
        with pytest.raises(InvalidParameter) as caught:
            settings.validate(HealthConfig(**{field: value}))
        assert str(caught.value) == message
    settings.validate(HealthConfig(**{field: 1_000_000}))
    settings.validate(HealthConfig(**{field: 0}))


def test_negative_retries_and_missing_commands_are_refused():
    with pytest.raises(InvalidParameter, match="Retries in Healthcheck cannot be negative"):
        settings.validate(HealthConfig(retries=-1))
    for test in (["CMD"], ["CMD-SHELL"], ["CMD-SHELL", ""]):
        with pytest.raises(InvalidParameter, match="needs a command"):
            settings.validate(HealthConfig(test=test))
    settings.validate(UNSET)
    settings.validate(None)


def test_what_the_request_leaves_open_comes_from_the_image():
    image = ContainerConfig(healthcheck=HealthConfig(test=["CMD", "ok"], interval=7 * S, retries=9))
    assert settings.merge(ContainerConfig(), image) == image.healthcheck
    own = settings.merge(ContainerConfig(healthcheck=HealthConfig(timeout=2 * S, retries=1)), image)
    assert (own.test, own.interval, own.timeout, own.retries) == (["CMD", "ok"], 7 * S, 2 * S, 1)
    none = settings.merge(ContainerConfig(healthcheck=HealthConfig(test=["NONE"])), image)
    assert settings.command(ContainerConfig(healthcheck=none)) == ()


def test_defaults():
    assert settings.schedule(ContainerConfig()) == settings.Schedule(
        interval=30 * S, timeout=30 * S, retries=3, start_period=0, start_interval=5 * S
    )


@pytest.mark.parametrize(
    ("test", "shell", "command"),
    [
        (["CMD", "a", "b"], UNSET, ("a", "b")),
        (["CMD-SHELL", "a b"], UNSET, ("/bin/sh", "-c", "a b")),
        (["CMD-SHELL", "a b"], ["/bin/bash", "-ec"], ("/bin/bash", "-ec", "a b")),
        (["NONE"], UNSET, ()),
        (["OTHER", "a"], UNSET, ()),
        ([], UNSET, ()),
    ],
)
def test_the_probes_program(test, shell, command):
    assert settings.command(ContainerConfig(healthcheck=HealthConfig(test=test), shell=shell)) == command


def test_what_becomes_of_an_unhealthy_container():
    key = settings.ON_FAILURE
    assert settings.on_failure(ContainerConfig(), HostConfig()) == "none"
    assert settings.on_failure(ContainerConfig(labels={key: "stop"}), HostConfig()) == "stop"
    assert settings.on_failure(ContainerConfig(labels={key: "stop"}), HostConfig(annotations={key: "kill"})) == "kill"
    with pytest.raises(InvalidParameter, match=r"invalid io.boxship.health-on-failure 'explode'"):
        settings.on_failure(ContainerConfig(), HostConfig(annotations={key: "explode"}))


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (250_000_000, "250ms"),
        (1_000_000, "1ms"),
        (30 * S, "30s"),
        (1_500_000_000, "1.5s"),
        (90 * S, "1m30s"),
        (60 * S, "1m0s"),
        (3600 * S, "1h0m0s"),
        (3661 * S + 500_000_000, "1h1m1.5s"),
    ],
)
def test_durations_are_worded_as_go_words_them(nanoseconds, text):
    assert words.duration(nanoseconds) == text


def test_output_is_cut_and_marked():
    assert words.limited(b"x" * 4096) == b"x" * 4096
    assert words.limited(b"x" * 4097) == b"x" * 4096 + b"..."
    assert words.exceeded(30 * S, b"") == b"Health check exceeded timeout (30s)"
    assert words.exceeded(30 * S, b"so far") == b"Health check exceeded timeout (30s): so far"


@pytest.mark.parametrize(
    ("status", "text"), [("starting", "(health: starting)"), ("healthy", "(healthy)"), ("unhealthy", "(unhealthy)")]
)
def test_ps_shows_health_behind_a_running_containers_status(status, text):
    state = State(running=True, started_at=1, health=Health(status=status))
    assert status_text(state, 5 * S) == f"Up 4 seconds {text}"
    state.running, state.finished_at = False, 1
    assert "health" not in status_text(state, 5 * S)
