"""The supervisor's service on the bus, and its messages: the whole of what a daemon can ask of the runtime.

Daemon and supervisor may be of neighbouring versions (the supervisor outlives a daemon upgrade), so fields and methods
are only ever added, with a default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct

from boxrun.bus import Context, Service, server_stream, unary
from boxrun.container.spec import IDMapping, Mount, Process, Resources, Rlimit, Root, Seccomp, Spec
from boxrun.container.usage import Usage
from boxrun.network.contract import PlugReply, PlugRequest
from boxrun.prober.protocol import Health, Schedule
from boxrun.shim.logs.writer import Position

Framing = Literal["raw", "multiplexed", "websocket", "websocket-multiplexed"]
Phase = Literal["starting", "running", "exited"]


class Attachment(Struct, frozen=True, kw_only=True):
    """A client's socket, whose file descriptor travels beside the message, and what it is attached to.

    ``framing``: ``raw`` bytes; Docker's 8-byte headers (``multiplexed``); or either of them in binary websocket messages
    (RFC 6455, server side, after the handshake). Over ``websocket-multiplexed`` a client ends its input, and goes on
    listening, with an empty binary message. ``received`` are bytes that the HTTP parser had already read past
    the request's head.
    ``detach_keys`` is Docker's notation, empty for none.
    """

    framing: Framing
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    detach_keys: str = ""
    received: bytes = b""


class StartRequest(Struct, frozen=True, kw_only=True):
    """Start ``spec``. One file descriptor travels along for each of ``attachments``, in order.

    ``sandbox`` is plugged on the way (``Networks.plug``), where the spec has a network namespace of its own; one that was
    plugged before is taken where it is None. A sandbox goes with its container's end. Where it can't be
    plugged the start fails as ``plug`` does, with a ``NetworkFailure`` as its detail.
    """

    spec: Spec
    attachments: tuple[Attachment, ...] = ()
    sandbox: PlugRequest | None = None


class StartReply(Struct, frozen=True, kw_only=True):
    """The container runs: its first process in the host's numbers, and the time in ns since the epoch."""

    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()
    sandbox: PlugReply | None = None


class StartFailure(Struct, frozen=True, kw_only=True):
    """The detail of a FAILED_PRECONDITION answer to ``start``: which step failed, and the exit code Docker gives it.

    ``exit_code`` is 127 where the program was not found, 126 where it couldn't be run, 128 for everything else.
    """

    step: str
    errno: int
    message: str
    exit_code: int


class ContainerRef(Struct, frozen=True, kw_only=True):
    """A container by its id."""

    id: str


class SignalRequest(Struct, frozen=True, kw_only=True):
    """Send ``signal`` (its number) to process 1, or to every process where ``everyone``."""

    id: str
    signal: int
    everyone: bool = False


class ResizeRequest(Struct, frozen=True, kw_only=True):
    """Set the terminal's size in characters."""

    id: str
    height: int
    width: int


class AttachRequest(Struct, frozen=True, kw_only=True):
    """Hand a client's socket to a running container; one file descriptor travels along."""

    id: str
    attachment: Attachment


class AttachReply(Struct, frozen=True, kw_only=True):
    """How far the container's log was written when the client was attached."""

    log: Position = Position()


class ContainerStatus(Struct, frozen=True, kw_only=True):
    """What the runtime knows of a container.

    Times are ns since the epoch, 0 for not yet. ``lost``: the shim died or the machine went down, so that ``exit_code``
    is 255 for want of the true one. ``signal`` is non-zero where a signal ended process 1 (``exit_code`` is then 128 + signal).
    """

    id: str
    phase: Phase
    pid: int = 0
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    signal: int = 0
    oom_killed: bool = False
    lost: bool = False
    error: str = ""
    log_dropped: int = 0
    paused: bool = False


class ContainerList(Struct, frozen=True, kw_only=True):
    """Every container the runtime has, exited ones until they are released."""

    containers: tuple[ContainerStatus, ...]


class WatchRequest(Struct, frozen=True):
    """Nothing is asked: a watch always begins with every container's status."""


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


class RuntimeEvent(Struct, frozen=True, kw_only=True):
    """Something happened. ``listed`` ends the initial listing, ``status`` being None there.

    Of containers, by ``status``: ``status`` (sent for each at the start of a watch), ``started``, ``exited``, ``oom`` and
    ``detached``. Of execs, by ``exec``: ``exec`` (for each at the start), ``exec_started``, ``exec_exited``, ``exec_detached``.
    A kind that a watcher doesn't know is to be ignored.
    """

    kind: str
    status: ContainerStatus | None = None
    exec: ExecStatus | None = None


class Features(Struct, frozen=True, kw_only=True):
    """What this machine can do, as the runtime found it."""

    version: str
    cgroup_version: Literal["1", "2"]
    cgroup_controllers: tuple[str, ...]
    seccomp: bool
    seccomp_error: str = ""
    apparmor: bool = False
    selinux: bool = False
    userns: bool = True
    timens: bool = True
    warnings: tuple[str, ...] = ()


class ShutdownRequest(Struct, frozen=True, kw_only=True):
    """End the supervisor and its zygote; refused while containers run unless ``kill``.

    ``cgroup_parents`` are to be removed beside those that this supervisor has used itself: an earlier one may have made them.
    """

    kill: bool = False
    cgroup_parents: tuple[str, ...] = ()


class UpdateRequest(Struct, frozen=True, kw_only=True):
    """Change the limits that ``resources`` sets, leaving the others."""

    id: str
    resources: Resources


class UpdateReply(Struct, frozen=True, kw_only=True):
    """Limits that this kernel hasn't, in Docker's words."""

    warnings: tuple[str, ...] = ()


class UsageRequest(Struct, frozen=True, kw_only=True):
    """The containers whose usage is asked for."""

    ids: tuple[str, ...]


class UsageReply(Struct, frozen=True, kw_only=True):
    """The usage of those of the containers that run, and the machine's at the same moment.

    ``system_time`` is what all processors spent since the machine's start, idle or not, in ns; ``processors`` are online.
    """

    cgroup_version: Literal["1", "2"]
    system_time: int
    processors: int
    containers: tuple[Usage, ...] = ()


class ProcessList(Struct, frozen=True, kw_only=True):
    """A container's processes, in the host's numbers, in ascending order."""

    pids: tuple[int, ...]


class TreeRequest(Struct, frozen=True, kw_only=True):
    """What to show as a detached tree: a bind or an overlay, with owners as they are on the disk."""

    mount: Mount


class RootRequest(Struct, frozen=True, kw_only=True):
    """Open a container's root. ``root`` and ``mounts`` are what it is assembled from where the container doesn't run.

    ``below``: the root's own tree, with nothing of what is mounted on it.
    """

    id: str
    root: Root | None = None
    mounts: tuple[Mount, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    below: bool = False


class RootReply(Struct, frozen=True, kw_only=True):
    """A descriptor of the root comes along; beside it, unless the container is ``running``, the lease.

    A lease is a socket: the root stays assembled until every copy of it is closed, and the container can't be started before.
    """

    running: bool


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


class CheckRequest(Struct, frozen=True, kw_only=True):
    """What a container to come asks of the machine."""

    cgroup_parent: str
    resources: Resources
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None


class CheckReply(Struct, frozen=True, kw_only=True):
    """What it won't get, in words for the user; ``refusal`` says why it can't be started at all."""

    warnings: tuple[str, ...] = ()
    refusal: str = ""


class Empty(Struct, frozen=True):
    """Nothing to say."""


class Runtime(Service):
    """The supervisor's service. Errors: NOT_FOUND for an unknown container, ALREADY_EXISTS for one that runs,
    FAILED_PRECONDITION for one that doesn't (or a start that failed, with StartFailure as its detail)."""

    @unary
    async def features(self, request: Empty, context: Context) -> Features:
        """What this machine can do."""
        raise NotImplementedError

    @unary
    async def start(self, request: StartRequest, context: Context) -> StartReply:
        """Start a container; answered when its program has been executed."""
        raise NotImplementedError

    @unary
    async def signal(self, request: SignalRequest, context: Context) -> Empty:
        """Send a signal."""
        raise NotImplementedError

    @unary
    async def resize(self, request: ResizeRequest, context: Context) -> Empty:
        """Set a terminal's size."""
        raise NotImplementedError

    @unary
    async def attach(self, request: AttachRequest, context: Context) -> Empty:
        """Hand over a client's socket."""
        raise NotImplementedError

    @unary
    async def status(self, request: ContainerRef, context: Context) -> ContainerStatus:
        """One container's status."""
        raise NotImplementedError

    @unary
    async def list(self, request: Empty, context: Context) -> ContainerList:
        """Every container's status."""
        raise NotImplementedError

    @unary
    async def release(self, request: ContainerRef, context: Context) -> Empty:
        """Forget an exited container: its cgroup, run directory and exit record go. Unknown ones are fine."""
        raise NotImplementedError

    @unary
    async def shutdown(self, request: ShutdownRequest, context: Context) -> Empty:
        """End the supervisor and its zygote."""
        raise NotImplementedError

    @server_stream
    def watch(self, request: WatchRequest, context: Context) -> AsyncIterator[RuntimeEvent]:
        """Every container's status, then what happens, as it happens, none missed between the two."""
        raise NotImplementedError

    @unary
    async def freeze(self, request: ContainerRef, context: Context) -> Empty:
        """Stop every process of a container; answered when all have stopped. Doing it twice is fine."""
        raise NotImplementedError

    @unary
    async def thaw(self, request: ContainerRef, context: Context) -> Empty:
        """Let a frozen container's processes run again."""
        raise NotImplementedError

    @unary
    async def update(self, request: UpdateRequest, context: Context) -> UpdateReply:
        """Change a running container's limits, all or none of them."""
        raise NotImplementedError

    @unary
    async def usage(self, request: UsageRequest, context: Context) -> UsageReply:
        """What running containers use of the machine; those that don't run or are unknown are left out."""
        raise NotImplementedError

    @unary
    async def processes(self, request: ContainerRef, context: Context) -> ProcessList:
        """A running container's processes."""
        raise NotImplementedError

    @unary
    async def tree(self, request: TreeRequest, context: Context) -> Empty:
        """A mount as a detached tree: the reply brings its descriptor, and no mount namespace ever shows it."""
        raise NotImplementedError

    @unary
    async def root(self, request: RootRequest, context: Context) -> RootReply:
        """Open a container's root, running or not, for whoever copies files in and out of it."""
        raise NotImplementedError

    @unary
    async def exec(self, request: ExecRequest, context: Context) -> ExecReply:
        """Run a further program in a container; answered when it has been executed.

        FAILED_PRECONDITION with a StartFailure where it couldn't be, without one where the container doesn't run.
        """
        raise NotImplementedError

    @unary
    async def exec_status(self, request: ExecRef, context: Context) -> ExecStatus:
        """One exec's status; once its streams have ended because it has, this says so."""
        raise NotImplementedError

    @unary
    async def exec_resize(self, request: ExecResizeRequest, context: Context) -> Empty:
        """Set an exec's terminal's size."""
        raise NotImplementedError

    @unary
    async def exec_signal(self, request: ExecSignalRequest, context: Context) -> Empty:
        """Send a signal to an exec's program."""
        raise NotImplementedError

    @unary
    async def exec_release(self, request: ExecReleaseRequest, context: Context) -> Empty:
        """Forget execs that have ended. Unknown ones are fine, and so are those that run: they stay."""
        raise NotImplementedError

    @unary
    async def probe(self, request: ProbeRequest, context: Context) -> HealthReply:
        """Have a running container probed; answered when its prober is inside. Asking again changes nothing."""
        raise NotImplementedError

    @unary
    async def health(self, request: ContainerRef, context: Context) -> HealthReply:
        """How a container that is probed is now."""
        raise NotImplementedError

    @unary
    async def health_reports(self, request: HealthReportsRequest, context: Context) -> HealthReports:
        """How containers are, as news come."""
        raise NotImplementedError

    @unary
    async def attach_gated(self, request: AttachRequest, context: Context) -> AttachReply:
        """Hand over a client's socket, and the reading end of a pipe as its gate.

        The client gets nothing before a byte comes through that; it is dropped where the gate is closed without one.
        """
        raise NotImplementedError

    @unary
    async def check(self, request: CheckRequest, context: Context) -> CheckReply:
        """See what this machine can't give a container to come."""
        raise NotImplementedError
