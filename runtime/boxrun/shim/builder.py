"""Making a container: its cgroup, its first process, and what the worker needs to look after them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import time_ns
from typing import NamedTuple

from boxrun.container.cgroups import Cgroups, Group
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.prepare import prepare
from boxrun.container.spawn import Plug, spawn
from boxrun.errors import StartFault
from boxrun.shim.protocol import Payload

REMOVE_SECONDS = 10.0
"""How long the cgroup of a container that couldn't be made may take to empty."""


class Built(NamedTuple):
    """A container whose program runs. The descriptors are the caller's; -1 for those it doesn't have.

    ``oom_events`` are the poll(2) events that ``oom_fd`` shows when memory runs out.
    """

    pid: int
    pidfd: int
    console: int
    oom_fd: int
    oom_events: int
    started_at: int
    warnings: tuple[str, ...]


def build(
    cgroups: Cgroups,
    payload: Payload,
    joins: Sequence[int],
    stdio: tuple[int, int, int] | None,
    *,
    gate: int = -1,
    plug: Plug | None = None,
) -> Built:
    """Make the container that ``payload`` describes and wait until its program runs.

    Args:
        cgroups: the machine's hierarchies.
        payload: the spec and what belongs to it.
        joins: descriptors of what ``Payload.joins`` names, in its order.
        stdio: the program's stdin, stdout and stderr; None with a terminal.
        gate: what the program waits for; -1 for nothing.
        plug: told of the container's own network namespace.

    Raises:
        StartFault: it couldn't be made, and nothing is left of it.
    """
    spec = payload.spec
    try:
        group = cgroups.create(spec.cgroup, spec.resources)
    except CgroupError as error:
        raise StartFault("cgroup", 0, str(error)) from error
    with removed_on_failure(group):
        prepared = prepare(spec, dict(zip(payload.joins, joins, strict=True)), group, payload.seccomp)
        # From here on what fails has the process reaped; what goes on in its descendants ends with the group.
        spawned = spawn(prepared, stdio, gate=gate, plug=plug)
        spawned.ready()
        started_at = time_ns()
        watch = group.oom_watch()
    group.close()
    oom_fd, oom_events = watch if watch is not None else (-1, 0)
    console = -1 if spawned.console_fd is None else spawned.console_fd
    warnings = (*group.warnings, *spawned.warnings)
    return Built(spawned.pid, spawned.pidfd, console, oom_fd, oom_events, started_at, warnings)


@contextmanager
def removed_on_failure(group: Group) -> Iterator[None]:
    """Have the cgroup of a container that can't be made removed.

    Raises:
        StartFault: for whatever went wrong.
    """
    try:
        yield
    except BaseException as error:
        with suppress(CgroupError):
            group.remove(REMOVE_SECONDS)
        if isinstance(error, StartFault) or not isinstance(error, Exception):
            raise
        raise StartFault("start", getattr(error, "errno", 0) or 0, _describe(error)) from error


def _describe(error: Exception) -> str:
    """An unforeseen error in words."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
