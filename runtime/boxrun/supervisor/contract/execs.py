"""Execs: further programs in running containers."""

from __future__ import annotations

from msgspec import Struct

from boxrun.container.spec import Process, Seccomp
from boxrun.supervisor.contract.containers import Attachment, Phase


class ExecRequest(Struct, frozen=True, kw_only=True):
    """Run a further program in the running container ``id``. One file descriptor travels along for each of ``attachments``.

    ``exec_id`` is made of letters and digits and never used twice. ``process.terminal`` gives it a terminal of the container's
    own. ``open_stdin``: keep a stdin, closed when the first attached client's ends. ``user_namespace``: the container has one
    of its own. ``host_pids``: it shares the host's pid namespace, so that nobody in it reaps what the program leaves behind.
    """

    id: str
    exec_id: str
    process: Process
    open_stdin: bool = False
    seccomp: Seccomp = Seccomp()
    user_namespace: bool = False
    host_pids: bool = False
    attachments: tuple[Attachment, ...] = ()


class ExecReply(Struct, frozen=True, kw_only=True):
    """The program runs: its process in the host's numbers, and the time in ns since the epoch."""

    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()


class ExecRef(Struct, frozen=True, kw_only=True):
    """An exec by its id."""

    exec_id: str


class ExecReleaseRequest(Struct, frozen=True, kw_only=True):
    """Execs by their ids."""

    exec_ids: tuple[str, ...]


class ExecResizeRequest(Struct, frozen=True, kw_only=True):
    """Set an exec's terminal's size in characters."""

    exec_id: str
    height: int
    width: int


class ExecSignalRequest(Struct, frozen=True, kw_only=True):
    """Send ``signal`` (its number) to an exec's program."""

    exec_id: str
    signal: int


class ExecStatus(Struct, frozen=True, kw_only=True):
    """What the runtime knows of an exec; times and ``lost`` as in ``ContainerStatus``.

    ``error`` says why a program that was never executed wasn't, where nobody was there to be answered.
    """

    exec_id: str
    container: str
    phase: Phase
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    lost: bool = False
    error: str = ""
