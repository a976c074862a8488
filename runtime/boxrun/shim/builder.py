"""The builder: a process of its own that makes the container and ends.

Setting a container up touches megabytes of memory that would otherwise stay with the shim for the container's life, so the shim
forks once more for it. The shim is a subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): when the builder ends, the container's
process 1 becomes the shim's child. The builder dies with the shim (PR_SET_PDEATHSIG), and as long as it lives it holds the shim's
connection to the supervisor open, so that its end means that nobody makes anything any more.
"""

from __future__ import annotations

import os
import signal
from _socket import socket
from collections.abc import Sequence
from time import time_ns

from boxrun.container.cgroups import Cgroups, Group
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.prepare import prepare
from boxrun.container.spawn import spawn
from boxrun.errors import StartFault
from boxrun.linux.process import PR_SET_PDEATHSIG, prctl
from boxrun.shim.protocol import Built, Failed, Payload, decode_payload, encode, read_memfd, send


def build(  # noqa: PLR0917 - called once, right after the fork
    cgroups: Cgroups, shim: int, payload: int, joins: Sequence[int], stdio: tuple[int, int, int] | None, results: socket
) -> int:
    """Make the container that ``payload`` describes and say how it went on ``results``; returns the exit status.

    Args:
        cgroups: the machine's hierarchies.
        shim: the shim's pid, to notice that it is gone already.
        payload: a memfd with an encoded ``Payload``.
        joins: descriptors of what ``Payload.joins`` names, in its order.
        stdio: the program's stdin, stdout and stderr; None with a terminal.
        results: where the outcome goes, one message.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != shim:
        return 1
    try:
        _build(cgroups, decode_payload(read_memfd(payload)), joins, stdio, results)
    except StartFault as fault:
        failed = Failed(step=fault.step, errno=fault.errno, message=fault.message, exit_code=fault.exit_code)
    except CgroupError as error:
        failed = Failed(step="cgroup", errno=0, message=str(error), exit_code=128)
    except Exception as error:  # noqa: BLE001 - whatever it was, the caller gets an answer
        failed = Failed(step="start", errno=getattr(error, "errno", 0) or 0, message=_describe(error), exit_code=128)
    else:
        return 0
    send(results, encode(failed))
    return 1


def _build(
    cgroups: Cgroups, payload: Payload, joins: Sequence[int], stdio: tuple[int, int, int] | None, results: socket
) -> None:
    spec = payload.spec
    group = cgroups.create(spec.cgroup, spec.resources)
    try:
        prepared = prepare(spec, dict(zip(payload.joins, joins, strict=True)), group, payload.seccomp)
        spawned = spawn(prepared, stdio)
        spawned.ready()
        started_at = time_ns()
        _report(group, spawned.warnings, spawned.pid, spawned.pidfd, spawned.console_fd, started_at, results)
    except BaseException:
        group.remove()
        raise


def _report(  # noqa: PLR0917
    group: Group, warnings: Sequence[str], pid: int, pidfd: int, console: int | None, started_at: int, results: socket
) -> None:
    watch = group.oom_watch()
    fds = [pidfd]
    if console is not None:
        fds.append(console)
    if watch is not None:
        fds.append(watch[0])
    built = Built(
        pid=pid,
        started_at=started_at,
        warnings=(*group.warnings, *warnings),
        console=console is not None,
        oom_events=watch[1] if watch is not None else 0,
    )
    send(results, encode(built), fds)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename!s}: {error.strerror}"
    return f"{type(error).__name__}: {error}"
