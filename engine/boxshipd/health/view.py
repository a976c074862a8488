"""Health as the API shows it. Source: moby container/health.go, daemon/inspect.go, daemon/list.go."""

from __future__ import annotations

import boxrun.prober.protocol as probing
from boxship.types.containers import Health, HealthcheckResult

from boxshipd.times import rfc3339

HEALTHS = frozenset({"starting", "healthy", "unhealthy", "none"})
"""What the ``health`` filter of ``ps`` takes."""


def word(health: probing.Health | None) -> str:
    """Health in a word, as the filter has it."""
    return health.status if health is not None else "none"


def suffix(health: probing.Health | None) -> str:
    """What ``ps`` puts behind a running container's status."""
    if health is None:
        return ""
    return " (health: starting)" if health.status == "starting" else f" ({health.status})"


def shown(health: probing.Health) -> Health:
    """Health as ``inspect`` shows it."""
    return Health(
        status=health.status,
        failing_streak=health.streak,
        log=[
            HealthcheckResult(
                start=rfc3339(result.start),
                end=rfc3339(result.end),
                exit_code=result.exit_code,
                output=result.output.decode(errors="replace"),
            )
            for result in health.log
        ],
    )
