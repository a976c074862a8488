"""What supervisor and prober say to each other, on the same kind of socket and in the same encoding as shims do.

A prober outlives the supervisor that started it and may have to answer a newer one, so fields are only ever added, with a
default. What a prober says is bounded and not to be trusted: it is confined like its container, and no more than that.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.msgpack import Decoder

from boxrun.container.spec import Cgroup, Process

HealthStatus = Literal["starting", "healthy", "unhealthy"]

MAX_RESULTS: Final = 5
"""Results that are kept. Source: moby daemon/health.go, maxLogEntries."""

MAX_OUTPUT: Final = 4096
"""Bytes of a probe's output that are kept. Source: moby daemon/health.go, maxOutputLen."""

MESSAGE_LIMIT: Final = 32768
"""Bytes of a message, in either direction: twice what the longest report has."""

TRUNCATED: Final = b"..."
"""Follows output that was cut."""


class Schedule(Struct, frozen=True, kw_only=True):
    """When to probe and what to make of it, with Docker's defaults filled in; times are ns."""

    interval: int
    timeout: int
    retries: int
    start_period: int
    start_interval: int


class ProbeResult(Struct, frozen=True, kw_only=True):
    """One probe: begin and end in ns since the epoch, its exit code (-1: it couldn't be run, or was killed), its output."""

    start: int
    end: int
    exit_code: int
    output: bytes = b""


class Health(Struct, frozen=True, kw_only=True):
    """A container's health: ``streak`` failures in a row, the last results with the oldest first.

    ``count`` are all the probes so far; the log's last entry is number ``count``.
    """

    status: HealthStatus = "starting"
    streak: int = 0
    log: tuple[ProbeResult, ...] = ()
    count: int = 0


class Check(Struct, frozen=True, kw_only=True):
    """What a prober has to know; in a memfd of its own.

    Args:
        id, run: the container and its run.
        cgroup: the container's group, which the prober joins.
        process: the probe's program; its environment, user, directory, capabilities and limits are the container's.
        seccomp: the compiled filter, empty for none.
        namespaces: the ``CLONE_NEW*`` flags of the container's namespaces that aren't the host's.
        custom: the filter is the user's own, and may refuse what a prober needs.
        started_at: when the container started, ns since the epoch.
        schedule: when to probe.
        health: what is known already.
        attentive: whether somebody wants every result.
    """

    id: str
    run: int
    cgroup: Cgroup
    process: Process
    schedule: Schedule
    started_at: int
    seccomp: bytes = b""
    namespaces: int = 0
    custom: bool = False
    health: Health = Health()
    attentive: bool = False


class Ask(Struct, frozen=True, kw_only=True, tag="ask", tag_field="type"):
    """Say how the container is."""

    sequence: int


class Rest(Struct, frozen=True, kw_only=True, tag="rest", tag_field="type"):
    """End the probe under way, of which nothing is reported, and begin none; or probe again, one interval from now."""

    sequence: int
    rest: bool


class Attend(Struct, frozen=True, kw_only=True, tag="attend", tag_field="type"):
    """Report every result from now on, or only what matters."""

    sequence: int
    attentive: bool


class Report(Struct, frozen=True, kw_only=True, tag="report", tag_field="type", omit_defaults=True):
    """How the container is: the first message on a connection, the answer to a request (``sequence``), and news.

    ``prober`` is the prober's process; ``stuck`` a probe of its that it isn't permitted to kill.
    """

    id: str
    run: int
    prober: int
    health: Health
    sequence: int = 0
    stuck: int = 0


class Unable(Struct, frozen=True, kw_only=True, tag="unable", tag_field="type"):
    """The prober can't get into the container, and ends."""

    id: str
    error: str


Request = Ask | Rest | Attend
Message = Report | Unable

# What fits the columns, clocks and system calls of those who are told.
_MOST: Final = (1 << 63) - 1

decode_check = Decoder(Check).decode
decode_request = Decoder(Request).decode
decode_message = Decoder(Message).decode


def sound(report: Report) -> bool:
    """Whether a report is within the bounds that an honest prober keeps to."""
    health = report.health
    numbers = [report.run, report.prober, report.sequence, report.stuck, health.streak, health.count]
    for result in health.log:
        numbers += (result.start, result.end, result.exit_code + 1)
    limit = 2 * MAX_OUTPUT
    return (
        len(health.log) <= MAX_RESULTS
        and all(len(result.output) <= limit for result in health.log)
        and all(0 <= number <= _MOST for number in numbers)
    )
