"""Health: having a container probed, and how it is."""

from __future__ import annotations

from msgspec import Struct

from boxrun.container.spec import Process, Seccomp
from boxrun.prober.protocol import Health, Schedule


class ProbeRequest(Struct, frozen=True, kw_only=True):
    """Probe a running container for as long as it runs, going on from ``health``.

    ``process`` is the probe's program, in all else the container's own; ``seccomp`` the container's.
    """

    id: str
    process: Process
    seccomp: Seccomp
    schedule: Schedule
    health: Health = Health()


class HealthReply(Struct, frozen=True, kw_only=True):
    """How a container is in the run that began at ``started_at``. ``lost``: its prober has died by itself."""

    id: str
    started_at: int
    health: Health
    lost: bool = False


class HealthReportsRequest(Struct, frozen=True, kw_only=True):
    """Ask for reports that are newer than number ``after`` of the supervisor ``instance``, and wait ``wait`` seconds for one.

    ``attentive``: every probe's result is to be reported from now on, and not only what matters.
    """

    instance: str = ""
    after: int = 0
    wait: float = 0.0
    attentive: bool = False


class HealthReports(Struct, frozen=True, kw_only=True):
    """The latest report of every container that has a newer one; ``instance`` and ``latest`` are for the next request."""

    instance: str
    latest: int
    reports: tuple[HealthReply, ...] = ()
