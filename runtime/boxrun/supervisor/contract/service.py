"""The supervisor's service on the bus: every call that a daemon can make."""

from __future__ import annotations

from collections.abc import AsyncIterator

from msgspec import Struct

from boxrun.bus import Context, Service, server_stream, unary
from boxrun.supervisor.contract.containers import (
    AttachReply,
    AttachRequest,
    ContainerList,
    ContainerRef,
    ContainerStatus,
    ResizeRequest,
    SignalRequest,
    StartReply,
    StartRequest,
)
from boxrun.supervisor.contract.events import RuntimeEvent, WatchRequest
from boxrun.supervisor.contract.execs import (
    ExecRef,
    ExecReleaseRequest,
    ExecReply,
    ExecRequest,
    ExecResizeRequest,
    ExecSignalRequest,
    ExecStatus,
)
from boxrun.supervisor.contract.groups import ProcessList, UpdateReply, UpdateRequest, UsageReply, UsageRequest
from boxrun.supervisor.contract.health import HealthReply, HealthReports, HealthReportsRequest, ProbeRequest
from boxrun.supervisor.contract.machine import CheckReply, CheckRequest, Features, ShutdownRequest
from boxrun.supervisor.contract.roots import RootReply, RootRequest, TreeRequest


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
