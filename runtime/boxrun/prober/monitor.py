"""What a container's health is, from its probes' results: pure arithmetic, no clock and no processes of its own.

Source: moby daemon/health.go (monitor, handleProbeResult) as of API 1.51.
"""

from __future__ import annotations

from boxrun.prober.protocol import MAX_RESULTS, Health, HealthStatus, ProbeResult, Schedule


class Monitor:
    """One container's health.

    Args:
        schedule: the rules.
        health: what is known already.
    """

    __slots__ = ("count", "log", "schedule", "status", "streak")

    def __init__(self, schedule: Schedule, health: Health) -> None:
        self.schedule = schedule
        self.status: HealthStatus = health.status
        self.streak = health.streak
        self.log = list(health.log[-MAX_RESULTS:])
        self.count = health.count

    def interval(self, age: int) -> int:
        """The ns from now to the next probe, where the container has run for ``age`` ns."""
        if age < self.schedule.start_period and self.status == "starting":
            return self.schedule.start_interval
        return self.schedule.interval

    def take(self, result: ProbeResult, age: int) -> bool:
        """Take in the result of a probe that began when the container had run for ``age`` ns; whether the status changed."""
        before = self.status
        self.log.append(result)
        del self.log[:-MAX_RESULTS]
        self.count += 1
        if result.exit_code == 0:
            self.streak = 0
            self.status = "healthy"
        elif self.status != "starting" or age >= self.schedule.start_period:
            self.streak += 1
            if self.streak >= self.schedule.retries:
                self.status = "unhealthy"
        return self.status != before

    @property
    def health(self) -> Health:
        """As it is now."""
        return Health(status=self.status, streak=self.streak, log=tuple(self.log), count=self.count)
