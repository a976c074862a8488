"""A container's health check as its configuration has it.

Source: moby daemon/container.go (validateHealthCheck), daemon/commit.go (merge), daemon/health.go (getProbe, getShell).
"""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from boxrun.prober.protocol import Schedule
from boxship.types.containers import ContainerConfig, HealthConfig
from boxship.types.host import HostConfig
from msgspec import UNSET

from boxshipd.errors import InvalidParameter

OnFailure = Literal["none", "kill", "restart", "stop"]

ON_FAILURE = "io.boxship.health-on-failure"
"""The annotation, or label, that says what becomes of a container that is found unhealthy."""

MINIMUM = 1_000_000
"""The least of every time, in ns."""

_SECOND = 1_000_000_000
_DEFAULT_SHELL = ("/bin/sh", "-c")
_TIMES = ("interval", "timeout", "start_period", "start_interval")
_MERGED = ("test", "interval", "timeout", "start_period", "start_interval", "retries")


def validate(health: HealthConfig | Any) -> None:
    """Refuse what can't be.

    Raises:
        InvalidParameter: with Docker's message where it has one.
    """
    if not isinstance(health, HealthConfig):
        return
    for name in _TIMES:
        value = _number(getattr(health, name))
        if value and value < MINIMUM:
            raise InvalidParameter(f"{name.title().replace('_', '')} in Healthcheck cannot be less than 1ms")
    if _number(health.retries) < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    test = health.test or []
    if test and test[0] in {"CMD", "CMD-SHELL"} and not any(test[1:]):
        raise InvalidParameter(f"Test in Healthcheck: {test[0]} needs a command")


def merge(request: ContainerConfig, image: ContainerConfig) -> HealthConfig | Any:
    """The request's check with what it leaves open taken from the image's."""
    own, theirs = request.healthcheck, image.healthcheck
    if not isinstance(theirs, HealthConfig):
        return own
    if not isinstance(own, HealthConfig):
        return theirs
    return HealthConfig(**{name: getattr(own, name) or getattr(theirs, name) or UNSET for name in _MERGED})


def schedule(config: ContainerConfig) -> Schedule:
    """When to probe, with the defaults filled in."""
    health = config.healthcheck if isinstance(config.healthcheck, HealthConfig) else HealthConfig()
    return Schedule(
        interval=_number(health.interval) or 30 * _SECOND,
        timeout=_number(health.timeout) or 30 * _SECOND,
        retries=_number(health.retries) or 3,
        start_period=_number(health.start_period),
        start_interval=_number(health.start_interval) or 5 * _SECOND,
    )


def command(config: ContainerConfig) -> tuple[str, ...]:
    """The probe's program and its arguments; empty where there is no check."""
    health = config.healthcheck
    test = (health.test or []) if isinstance(health, HealthConfig) else []
    if not test or not any(test[1:]):
        return ()
    if test[0] == "CMD":
        return tuple(test[1:])
    return (*(config.shell or _DEFAULT_SHELL), *test[1:]) if test[0] == "CMD-SHELL" else ()


def on_failure(config: ContainerConfig, host: HostConfig) -> OnFailure:
    """What becomes of the container when it is unhealthy. The annotation counts before the label.

    Raises:
        InvalidParameter: there is no such thing.
    """
    text = (host.annotations or {}).get(ON_FAILURE) or (config.labels or {}).get(ON_FAILURE) or "none"
    if text not in get_args(OnFailure):
        raise InvalidParameter(f"invalid {ON_FAILURE} '{text}': use one of 'none', 'kill', 'restart', or 'stop'")
    return cast(OnFailure, text)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
