"""The health check that the flags of ``create`` and ``run`` ask for. Source: docker/cli cli/command/container/opts.go."""

from __future__ import annotations

from typing import Any

from boxship.cli.container_flags import CreateOptions
from boxship.errors import CommandError

ON_FAILURE = "io.boxship.health-on-failure"
"""The annotation that carries ``--health-on-failure``."""

_FAILURE = 125
_NUMBERS = {
    "health-interval": "Interval",
    "health-timeout": "Timeout",
    "health-retries": "Retries",
    "health-start-period": "StartPeriod",
    "health-start-interval": "StartInterval",
}


def health_check(options: CreateOptions) -> dict[str, Any] | None:
    """The ``Healthcheck`` of ContainerCreate's body; None where no flag says anything of it.

    Raises:
        CommandError: flags contradict each other, or a number is negative (status 125).
    """
    values = {name: int(options.values.get(name, 0)) for name in _NUMBERS}
    if not options.health_cmd and not any(values.values()):
        return {"Test": ["NONE"]} if options.no_healthcheck else None
    if options.no_healthcheck:
        raise CommandError("--no-healthcheck conflicts with --health-* options", _FAILURE)
    for name, value in values.items():
        if value < 0:
            raise CommandError(f"--{name} cannot be negative", _FAILURE)
    check: dict[str, Any] = {_NUMBERS[name]: value for name, value in values.items() if value}
    if options.health_cmd:
        check["Test"] = ["CMD-SHELL", options.health_cmd]
    return check


def on_failure(options: CreateOptions) -> dict[str, str]:
    """The annotations that say what becomes of an unhealthy container."""
    return {ON_FAILURE: options.health_on_failure} if options.health_on_failure else {}
