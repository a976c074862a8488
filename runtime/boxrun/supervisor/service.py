"""The supervisor's service: ``contract.Runtime`` on the containers of one run directory."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from boxrun import __version__
from boxrun.bus import BusError, Code, Context
from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.seccomp.compiler import available
from boxrun.errors import ShimError
from boxrun.network.service import NetworksService
from boxrun.shim import exits
from boxrun.shim.wire import close_all
from boxrun.supervisor.attachments import attach_gated
from boxrun.supervisor.checks import check
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import (
    AttachReply,
    AttachRequest,
    CheckReply,
    CheckRequest,
    ContainerList,
    ContainerRef,
    ContainerStatus,
    Empty,
    ExecRef,
    ExecReleaseRequest,
    ExecReply,
    ExecRequest,
    ExecResizeRequest,
    ExecSignalRequest,
    ExecStatus,
    Features,
    HealthReply,
    HealthReports,
    HealthReportsRequest,
    ProbeRequest,
    ProcessList,
    ResizeRequest,
    RootReply,
    RootRequest,
    Runtime,
    RuntimeEvent,
    ShutdownRequest,
    SignalRequest,
    StartReply,
    StartRequest,
    TreeRequest,
    UpdateReply,
    UpdateRequest,
    UsageReply,
    UsageRequest,
    WatchRequest,
)
from boxrun.supervisor.execs import Execs
from boxrun.supervisor.groups import Groups
from boxrun.supervisor.probers import Probers
from boxrun.supervisor.processes import process_end
from boxrun.supervisor.roots import Roots
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.starts import Starter, as_client
from boxrun.supervisor.trees import send_tree
from boxrun.supervisor.watchers import Watchers
from boxrun.supervisor.zygotes import ZygoteKeeper

log = logging.getLogger(__name__)

GREETING_SECONDS = 5.0
"""How long shims may take to answer a new supervisor before it serves; later answers still count."""

KILL_SECONDS = 30.0
"""How long containers may take to die of SIGKILL."""


class RuntimeService(Runtime):
    """Serves one run directory."""

    def __init__(self, run: RunDirectory, cgroups: Cgroups, zygotes: ZygoteKeeper, networks: NetworksService) -> None:
        self._run = run
        self._cgroups = cgroups
        self._zygotes = zygotes
        self._watchers = Watchers()
        self._networks = networks
        self._starter = Starter(run, cgroups, self._watchers, zygotes, networks)
        self._containers: dict[str, Container] = {}
        self._execs = Execs(run.path, self._containers, self._watchers, zygotes)
        self._groups = Groups(self._containers, cgroups, run)
        self._probers = Probers(self._containers, cgroups, run, zygotes)
        self._roots = Roots(self._containers, zygotes)
        self._tasks: set[asyncio.Task[StartReply]] = set()
        self._unplugging: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        """Set when ``shutdown`` was asked for and granted."""

    async def recover(self) -> None:
        """Find what an earlier supervisor has left: live shims by their sockets, dead ones by what they recorded or didn't."""
        records = self._run.records()
        self._run.sweep_sockets({record.id for record in records})
        found = [Container(record, self._run, self._cgroups, self._watchers, self._zygotes.recycle) for record in records]
        self._containers.update((container.id, container) for container in found)
        await asyncio.gather(*(self._recover(container) for container in found))
        await self._execs.recover()
        await self._groups.recover()
        await self._probers.recover()
        await self._networks.recover({c.id: c.pid for c in found if c.phase == "running"})
        self._unplugging = asyncio.get_running_loop().create_task(self._unplug_ended())
        if found:
            log.info("found %d containers", len(found))

    async def _recover(self, container: Container) -> None:
        await container.recover()
        if container.link is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(GREETING_SECONDS):
                    await container.greeted.wait()

    async def _unplug_ended(self) -> None:
        """A sandbox goes with its container's end, whether a daemon is there or not."""
        while True:
            with suppress(BusError):  # too many have ended at once: who has is in the listing
                async for event in self._watchers.watch(self._statuses, lambda: ()):
                    if event.status is not None and event.status.phase == "exited":
                        await self._networks.unplugged(event.status.id)

    async def features(self, request: Empty, context: Context) -> Features:
        """What this machine can do."""
        reason = available()
        return Features(
            version=__version__,
            cgroup_version=self._cgroups.version,
            cgroup_controllers=tuple(sorted(self._cgroups.controllers)),
            seccomp=reason is None,
            seccomp_error=reason or "",
            apparmor=False,
            selinux=False,
            userns=os.path.exists("/proc/self/ns/user"),
            timens=os.path.exists("/proc/self/ns/time"),
        )

    async def start(self, request: StartRequest, context: Context) -> StartReply:
        """Start a container. Once under way the start goes on, whether its caller still waits or not."""
        if len(context.fds) != len(request.attachments):
            raise BusError(
                Code.INVALID_ARGUMENT, f"{len(request.attachments)} attachments came with {len(context.fds)} descriptors"
            )
        container_id = request.spec.id
        previous = self._containers.get(container_id)
        if previous is not None and previous.phase != "exited":
            raise BusError(Code.ALREADY_EXISTS, f"container {container_id} is {previous.phase} already")
        if self.stopping.is_set():
            raise BusError(Code.UNAVAILABLE, "the supervisor is shutting down")
        container = self._containers[container_id] = self._starter.admit(request.spec)
        task = asyncio.get_running_loop().create_task(self._start(container, previous, request, context.take_fds()))
        self._tasks.add(task)
        task.add_done_callback(self._started)
        return await asyncio.shield(task)

    def _started(self, task: asyncio.Task[StartReply]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Where the caller has gone its failure is nobody's; the watchers know.
            task.exception()

    async def _start(
        self, container: Container, previous: Container | None, request: StartRequest, fds: Sequence[int]
    ) -> StartReply:
        try:
            await self._roots.released(request.spec)
            if previous is not None:
                await previous.clean()
                previous.forget()
            return await self._starter.start(container, request, fds, self._containers)
        except BaseException as error:
            await self._undo(container, str(error))
            raise
        finally:
            close_all(fds)

    async def _undo(self, container: Container, reason: str) -> None:
        """Leave nothing of a container that was not started."""
        if container.phase == "running":
            return
        container.abandon()
        await container.remove_cgroup()
        await self._networks.unplugged(container.id)
        container.forget()
        with suppress(OSError):
            exits.remove(container.record.state_dir)
        if self._containers.get(container.id) is container:
            del self._containers[container.id]
        self._watchers.never_started(ContainerStatus(id=container.id, phase="exited", exit_code=128, error=reason))

    async def signal(self, request: SignalRequest, context: Context) -> Empty:
        """Send a signal."""
        container = self._running(request.id)
        try:
            if request.everyone:
                container.signal_everyone(request.signal)
            else:
                container.signal(request.signal)
        except ProcessLookupError as error:
            raise BusError(Code.FAILED_PRECONDITION, f"container {request.id} is not running") from error
        except (CgroupError, OSError) as error:
            raise BusError(Code.INTERNAL, f"signal container {request.id}: {error}") from error
        return Empty()

    async def resize(self, request: ResizeRequest, context: Context) -> Empty:
        """Set a terminal's size."""
        container = self._running(request.id)
        try:
            if container.link is None:
                raise ShimError("its shim is gone")
            await container.link.resize(request.height, request.width)
        except ShimError as error:
            raise BusError(Code.FAILED_PRECONDITION, f"resize container {request.id}: {error}") from error
        return Empty()

    async def attach(self, request: AttachRequest, context: Context) -> Empty:
        """Hand over a client's socket."""
        container = self._running(request.id)
        if len(context.fds) != 1:
            raise BusError(Code.INVALID_ARGUMENT, f"an attachment needs one descriptor, {len(context.fds)} came")
        fds = context.take_fds()
        try:
            if container.link is None:
                raise ShimError("its shim is gone")
            await container.link.attach(as_client(request.attachment), fds[0])
        except ShimError as error:
            raise BusError(Code.FAILED_PRECONDITION, f"attach to container {request.id}: {error}") from error
        finally:
            close_all(fds)
        return Empty()

    async def attach_gated(self, request: AttachRequest, context: Context) -> AttachReply:
        """Hand over a client's socket behind a gate."""
        return await attach_gated(self._running(request.id), request, context)

    async def status(self, request: ContainerRef, context: Context) -> ContainerStatus:
        """One container's status."""
        return self._known(request.id).status

    async def list(self, request: Empty, context: Context) -> ContainerList:
        """Every container's status."""
        return ContainerList(containers=tuple(self._statuses()))

    async def release(self, request: ContainerRef, context: Context) -> Empty:
        """Forget an exited container."""
        container = self._containers.get(request.id)
        if container is None:
            return Empty()
        if container.phase != "exited":
            raise BusError(Code.FAILED_PRECONDITION, f"container {request.id} is {container.phase}")
        await container.clean()
        if self._containers.get(request.id) is container:
            del self._containers[request.id]
            container.forget()
            with suppress(OSError):
                exits.remove(container.record.state_dir)
        return Empty()

    async def freeze(self, request: ContainerRef, context: Context) -> Empty:
        """Stop every process of a container."""
        return await self._probers.around_freeze(request.id, self._groups.freeze)

    async def thaw(self, request: ContainerRef, context: Context) -> Empty:
        """Let a container's processes run again."""
        return await self._probers.around_thaw(request.id, self._groups.thaw)

    async def update(self, request: UpdateRequest, context: Context) -> UpdateReply:
        """Change a running container's limits."""
        return await self._groups.update(request)

    async def usage(self, request: UsageRequest, context: Context) -> UsageReply:
        """What running containers use of the machine."""
        return await self._groups.usage(request)

    async def processes(self, request: ContainerRef, context: Context) -> ProcessList:
        """A running container's processes."""
        return self._probers.without_prober(request.id, await self._groups.processes(request.id))

    async def shutdown(self, request: ShutdownRequest, context: Context) -> Empty:
        """End the supervisor and its zygote."""
        alive = [container for container in self._containers.values() if container.phase != "exited"]
        if alive and not request.kill:
            raise BusError(Code.FAILED_PRECONDITION, f"{len(alive)} containers are running")
        for parent in request.cgroup_parents:
            self._run.note_cgroup_parent(parent)
        self.stopping.set()
        return Empty()

    async def tree(self, request: TreeRequest, context: Context) -> Empty:
        """A mount as a detached tree."""
        return await send_tree(request, context)

    async def root(self, request: RootRequest, context: Context) -> RootReply:
        """Open a container's root."""
        return await self._roots.open(request, context)

    async def probe(self, request: ProbeRequest, context: Context) -> HealthReply:
        """Have a running container probed."""
        return await self._probers.start(request)

    async def health(self, request: ContainerRef, context: Context) -> HealthReply:
        """How a container is now."""
        return await self._probers.health(request.id)

    async def health_reports(self, request: HealthReportsRequest, context: Context) -> HealthReports:
        """How containers are, as news come."""
        return await self._probers.reports(request)

    def watch(self, request: WatchRequest, context: Context) -> AsyncIterator[RuntimeEvent]:
        """Every container's status, then what happens."""
        return self._watchers.watch(self._statuses, self._execs.statuses)

    async def exec(self, request: ExecRequest, context: Context) -> ExecReply:
        """Run a further program in a container."""
        return await self._execs.start(request, context)

    async def exec_status(self, request: ExecRef, context: Context) -> ExecStatus:
        """One exec's status."""
        return self._execs.status(request)

    async def exec_resize(self, request: ExecResizeRequest, context: Context) -> Empty:
        """Set an exec's terminal's size."""
        return await self._execs.resize(request)

    async def exec_signal(self, request: ExecSignalRequest, context: Context) -> Empty:
        """Send a signal to an exec's program."""
        return self._execs.signal(request)

    async def exec_release(self, request: ExecReleaseRequest, context: Context) -> Empty:
        """Forget execs that have ended."""
        return self._execs.release(request)

    async def check(self, request: CheckRequest, context: Context) -> CheckReply:
        """See what this machine can't give a container to come."""
        return check(request, self._cgroups, self._run)

    async def kill_all(self) -> None:
        """Kill every container and wait until nothing is left of it but its record; not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await self._kill_all()

    async def _kill_all(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)
        # Their processes rather than their connections, which end a moment earlier.
        shims = []
        for container in self._containers.values():
            if container.link is not None and container.shim_pid:
                with suppress(ProcessLookupError):
                    shims.append(os.pidfd_open(container.shim_pid))
        for container in self._containers.values():
            if container.phase == "running":
                container.kill()
        await asyncio.gather(*(container.clean() for container in self._containers.values()))
        await asyncio.gather(*(process_end(shim, KILL_SECONDS) for shim in shims))
        await self._execs.settle()

    def close(self) -> None:
        """Let go of every shim and prober."""
        if self._unplugging is not None:
            self._unplugging.cancel()
        self._probers.close()
        for container in self._containers.values():
            container.close()
        self._execs.close()

    def _statuses(self) -> tuple[ContainerStatus, ...]:
        return tuple(container.status for container in self._containers.values())

    def _known(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise BusError(Code.NOT_FOUND, f"no container {container_id}")
        return container

    def _running(self, container_id: str) -> Container:
        container = self._known(container_id)
        if container.phase != "running":
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is not running")
        return container
