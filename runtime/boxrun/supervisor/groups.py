"""What is done to running containers through their control groups: pause, limits, statistics, processes.

Everything that asks the kernel runs in a worker thread: freezing waits for processes, and a sample reads a dozen files.
A container that a client paused is noted in the run directory; one that is frozen without a note was only held for a moment by
a supervisor that died meanwhile, and runs on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, suppress

from boxrun.bus import BusError, Code
from boxrun.container.cgroups import CgroupError, Cgroups, Group
from boxrun.container.cgroups.statistics import Statistics
from boxrun.container.usage import NetworkUsage, Usage
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import Empty, ProcessList, UpdateReply, UpdateRequest, UsageReply, UsageRequest
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.threads import to_its_end

log = logging.getLogger(__name__)

FREEZE_SECONDS = 10.0
"""How long processes may take to stop; one that waits for a device may not do so before."""

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_LOOPBACK = "lo"


class Groups:
    """The running containers' groups.

    Args:
        containers: every container, by id; the service's own mapping.
        cgroups: the machine's hierarchies.
        run: the run directory.
    """

    def __init__(self, containers: Mapping[str, Container], cgroups: Cgroups, run: RunDirectory) -> None:
        self._containers = containers
        self._cgroups = cgroups
        self._run = run

    async def recover(self) -> None:
        """Find out which containers are paused, after an earlier supervisor."""
        running = [container for container in self._containers.values() if container.phase == "running"]
        if running:
            await asyncio.to_thread(self._recover, running)

    def _recover(self, containers: Sequence[Container]) -> None:
        for container in containers:
            try:
                with self._cgroups.open(container.record.cgroup) as group:
                    noted, frozen = self._run.is_paused(container.id), group.frozen()
                    container.paused = noted and frozen
                    if frozen and not noted:
                        log.warning("container %s was held by a supervisor that died: it runs on", container.id)
                        group.thaw()
            except (CgroupError, OSError) as error:
                log.error("container %s: is it paused? %s", container.id, error)

    async def freeze(self, container_id: str) -> Empty:
        """Stop every process of a container. Raises BusError."""

        def work(container: Container, group: Group) -> None:
            self._run.note_paused(container.id, True)
            try:
                group.freeze(FREEZE_SECONDS)
            except BaseException:
                self._run.note_paused(container.id, False)
                raise

        container = await self._in_group(container_id, work)
        container.paused = container.phase == "running"
        return Empty()

    async def thaw(self, container_id: str) -> Empty:
        """Let a container's processes run again. Raises BusError."""

        def work(container: Container, group: Group) -> None:
            group.thaw()
            self._run.note_paused(container.id, False)

        container = await self._in_group(container_id, work)
        container.paused = False
        return Empty()

    async def update(self, request: UpdateRequest) -> UpdateReply:
        """Change a container's limits, all or none. Raises BusError."""
        warnings: list[str] = []

        def work(_: Container, group: Group) -> None:
            warnings.extend(group.update(request.resources))

        await self._in_group(request.id, work)
        return UpdateReply(warnings=tuple(warnings))

    async def processes(self, container_id: str) -> ProcessList:
        """A container's processes. Raises BusError."""
        pids: list[int] = []

        def work(_: Container, group: Group) -> None:
            pids.extend(group.pids())

        await self._in_group(container_id, work, alone=False)
        return ProcessList(pids=tuple(sorted(pids)))

    async def usage(self, request: UsageRequest) -> UsageReply:
        """A sample of several containers at once."""
        running: list[tuple[Container, int]] = []
        with ExitStack() as stack:
            for id_ in request.ids:
                container = self._containers.get(id_)
                if container is not None and container.phase == "running" and container.pidfd >= 0:
                    pidfd = os.dup(container.pidfd)
                    stack.callback(os.close, pidfd)
                    running.append((container, pidfd))
            descriptors = stack.pop_all()
        return await to_its_end(self._sample, running, descriptors)

    def _sample(self, running: Sequence[tuple[Container, int]], descriptors: ExitStack) -> UsageReply:
        with descriptors:
            own_network = _network_of("self")
            found = []
            for container, pidfd in running:
                try:
                    found.append(self._usage(container, pidfd, own_network))
                except (CgroupError, OSError, ValueError) as error:
                    log.debug("statistics of container %s: %s", container.id, error)
        system_time, processors = _machine()
        return UsageReply(
            cgroup_version=self._cgroups.version, system_time=system_time, processors=processors, containers=tuple(found)
        )

    def _usage(self, container: Container, pidfd: int, own_network: tuple[int, int]) -> Usage:
        with self._cgroups.open(container.record.cgroup) as group:
            statistics = Statistics(self._cgroups.version, group.fd, group.places())
            io = statistics.io()
            return Usage(
                id=container.id,
                read_at=time.time_ns(),
                cpu=statistics.cpu(),
                memory=statistics.memory(),
                tasks=statistics.tasks(),
                io_bytes=io[0] if io else None,
                io_operations=io[1] if io else None,
                networks=_networks(container.pid, pidfd, own_network),
            )

    async def _in_group(self, container_id: str, work: Callable[[Container, Group], None], *, alone: bool = True) -> Container:
        """Do ``work`` to a running container's group in a thread; what changes it is done one at a time, unless not ``alone``.

        Raises:
            BusError: NOT_FOUND, FAILED_PRECONDITION where it doesn't run, INTERNAL where the kernel refused.
        """

        def run(container: Container) -> None:
            with self._cgroups.open(container.record.cgroup) as group:
                work(container, group)

        container = self._running(container_id)
        if not alone:
            await _told(container, asyncio.to_thread(run, container))
            return container
        async with container.group_lock:
            container = self._running(container_id)
            task = asyncio.ensure_future(asyncio.to_thread(run, container))
            try:
                await _told(container, asyncio.shield(task))
            except asyncio.CancelledError:
                # The thread goes on when its caller leaves: nobody else may begin before its end.
                while not task.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([task])
                raise
        return container

    def _running(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise BusError(Code.NOT_FOUND, f"no container {container_id}")
        if container.phase != "running":
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is not running")
        return container


async def _told(container: Container, done: Awaitable[None]) -> None:
    """Wait, and raise what went wrong as a BusError."""
    try:
        await done
    except (CgroupError, OSError) as error:
        if container.phase != "running":
            raise BusError(Code.FAILED_PRECONDITION, f"container {container.id} is not running") from error
        raise BusError(Code.INTERNAL, str(error)) from error


def _machine() -> tuple[int, int]:
    """What all processors have spent, in ns, as Docker counts it, and how many are online. Source: proc_stat(5)."""
    with open("/proc/stat", encoding="ascii") as file:
        total, processors = 0, 0
        for line in file:
            if not line.startswith("cpu"):
                break
            name, *ticks = line.split()
            if name == "cpu":
                total = sum(map(int, ticks[:7])) * _TICK
            else:
                processors += 1
    return total, processors


def _network_of(process: int | str) -> tuple[int, int]:
    """A process's network namespace. Raises OSError."""
    status = os.stat(f"/proc/{process}/ns/net")
    return status.st_dev, status.st_ino


def _networks(pid: int, pidfd: int, own: tuple[int, int]) -> dict[str, NetworkUsage]:
    """The interfaces of a container's network namespace but loopback; none where it is ours. Raises OSError."""
    if _network_of(pid) == own:
        return {}
    with open(f"/proc/{pid}/net/dev", encoding="ascii", errors="replace") as file:
        lines = file.read().splitlines()[2:]
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if poll.poll(0):
        # It has ended, so that its number may have been another's.
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.rpartition(":")
        values = [int(value) for value in rest.split()]
        if name.strip() != _LOOPBACK and len(values) >= 12:
            found[name.strip()] = NetworkUsage(*values[:4], *values[8:12])
    return found
