"""The supervisor's service on the bus, and its messages: the whole of what a daemon can ask of the runtime.

Daemon and supervisor may be of neighbouring versions (the supervisor outlives a daemon upgrade), so fields and methods
are only ever added, with a default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from msgspec import Struct

from boxrun.bus import Context, Service, server_stream, unary
from boxrun.container.spec import Spec

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
    """Start ``spec``. One file descriptor travels along for each of ``attachments``, in order."""

    spec: Spec
    attachments: tuple[Attachment, ...] = ()


class StartReply(Struct, frozen=True, kw_only=True):
    """The container runs: its first process in the host's numbers, and the time in ns since the epoch."""

    pid: int
    started_at: int
    warnings: tuple[str, ...] = ()


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


class ContainerList(Struct, frozen=True, kw_only=True):
    """Every container the runtime has, exited ones until they are released."""

    containers: tuple[ContainerStatus, ...]


class WatchRequest(Struct, frozen=True):
    """Nothing is asked: a watch always begins with every container's status."""


class RuntimeEvent(Struct, frozen=True, kw_only=True):
    """Something happened. ``listed`` ends the initial listing, ``status`` being None there.

    ``status`` (sent for each container at the start of a watch), ``started``, ``exited``, ``oom`` and ``detached``.
    """

    kind: Literal["status", "listed", "started", "exited", "oom", "detached"]
    status: ContainerStatus | None = None


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
