"""Probers: started where a container is to be probed, found again by a later supervisor, listened to.

A prober belongs to a run of a container and ends with it. What it says is kept as its latest report; a daemon asks for the
reports that are newer than those it has, and waits where there are none.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from errno import ESRCH
from signal import SIGKILL

import msgspec

from boxrun.bus import BusError, Code
from boxrun.container.cgroups import CgroupError, Cgroups
from boxrun.container.seccomp.compiler import compile_profile
from boxrun.errors import BoxrunError
from boxrun.linux import namespaces
from boxrun.linux.process import pidfd_open, pidfd_send_signal
from boxrun.prober.protocol import Check
from boxrun.shim.protocol import Probe
from boxrun.shim.wire import encode, memfd
from boxrun.supervisor.container import Container
from boxrun.supervisor.contract import Empty, HealthReply, HealthReports, HealthReportsRequest, ProbeRequest, ProcessList
from boxrun.supervisor.prober_link import ProberGoneError, ProberLink
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.sockets import SocketDirectory
from boxrun.supervisor.zygotes import ZygoteKeeper

log = logging.getLogger(__name__)

START_SECONDS = 20.0
"""How long a prober may take to get into its container."""

ANSWER_SECONDS = 0.5
"""How long a prober may take to say how its container is: one that stands still with it says nothing."""

LOST_SECONDS = 0.25
"""How long a container may outlive its prober before that counts as dead: usually both end together."""

CONCURRENT_STARTS = 2
"""Probers that are started at a time: containers' own starts come first."""

_KINDS = {
    "user": namespaces.CLONE_NEWUSER,
    "mnt": namespaces.CLONE_NEWNS,
    "pid": namespaces.CLONE_NEWPID,
    "net": namespaces.CLONE_NEWNET,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
    "cgroup": namespaces.CLONE_NEWCGROUP,
    "time": namespaces.CLONE_NEWTIME,
}


class Probers:
    """All of them.

    Args:
        containers: every container by id, kept up by the service.
        cgroups: the machine's hierarchies.
        run: the run directory.
        zygotes: where spare shims come from.
    """

    def __init__(self, containers: Mapping[str, Container], cgroups: Cgroups, run: RunDirectory, zygotes: ZygoteKeeper) -> None:
        self._containers = containers
        self._cgroups = cgroups
        self._zygotes = zygotes
        self._sockets = SocketDirectory(f"{run.path}/probers")
        self._links: dict[str, ProberLink] = {}
        self._starting: dict[str, asyncio.Task[ProberLink]] = {}
        self._admission = asyncio.Semaphore(CONCURRENT_STARTS)
        self._news: dict[str, HealthReply] = {}
        self._numbers: dict[str, int] = {}
        self._latest = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._attentive = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Tells a daemon that what it has numbers of was another supervisor's.
        self._instance = os.urandom(8).hex()

    async def start(self, request: ProbeRequest) -> HealthReply:
        """Have a container probed; where it is already that goes on as it was.

        Raises:
            BusError: FAILED_PRECONDITION: the container doesn't run, or nobody gets into it.
        """
        container = self._running(request.id)
        task = self._starting.get(request.id)
        if task is None:
            task = self._starting[request.id] = asyncio.get_running_loop().create_task(self._have(container, request))
            task.add_done_callback(lambda done: self._started(request.id, done))
        try:
            link = await asyncio.shield(task)
        except (BoxrunError, OSError) as error:
            raise BusError(Code.FAILED_PRECONDITION, str(error)) from error
        return self._reply(link)

    def _started(self, container_id: str, task: asyncio.Task[ProberLink]) -> None:
        self._starting.pop(container_id, None)
        if not task.cancelled():
            task.exception()

    async def _have(self, container: Container, request: ProbeRequest) -> ProberLink:
        """The container's prober: the one there is, or another where that is gone."""
        link = self._links.get(container.id) or self._connect(container.id)
        if link is not None:
            try:
                async with asyncio.timeout(START_SECONDS):
                    report = await link.greeting()
            except TimeoutError as error:
                # It lives, and stands still with its container perhaps: a second one would probe beside it.
                raise ProberGoneError(f"its prober does not answer within {START_SECONDS:.0f} s") from error
            except ProberGoneError as error:
                log.debug("container %s: %s", container.id, error)
            else:
                if report.run == container.record.run:
                    return link
                self._let_go(link)
        async with self._admission:
            return await self._launch(container, request)

    def _connect(self, container_id: str) -> ProberLink | None:
        """A connection to the prober that an earlier supervisor has started; None where nobody listens."""
        try:
            sock = self._sockets.connect(container_id)
        except OSError as error:
            log.error("container %s: its prober listens but can't be reached: %s", container_id, error)
            sock = None
        return None if sock is None else self._keep(ProberLink(container_id, sock, self._told, self._ended))

    async def _launch(self, container: Container, request: ProbeRequest) -> ProberLink:
        pid, pidfd = container.pid, container.join_descriptor()
        if pidfd < 0:
            raise ProberGoneError("the container is not running")
        check = Check(
            id=container.id,
            run=container.record.run,
            cgroup=container.record.cgroup,
            process=request.process,
            seccomp=compile_profile(request.seccomp, request.process.capabilities),
            namespaces=foreign(pid, pidfd),
            custom=request.seccomp.mode == "custom",
            started_at=container.started_at,
            schedule=request.schedule,
            health=request.health,
            attentive=self._attentive,
        )
        payload = memfd("boxrun-check", encode(check))
        try:
            with self._sockets.listen(container.id) as listener:
                sock = await self._zygotes.shim()
                link = self._keep(ProberLink(container.id, sock, self._told, self._ended))
                link.send(Probe(id=container.id), (payload, listener.fileno(), pidfd))
        finally:
            os.close(payload)
        try:
            async with asyncio.timeout(START_SECONDS):
                await link.greeting()
        except TimeoutError as error:
            self._let_go(link)
            raise ProberGoneError(f"its prober was not ready within {START_SECONDS:.0f} s") from error
        return link

    def _keep(self, link: ProberLink) -> ProberLink:
        previous = self._links.get(link.container)
        self._links[link.container] = link
        if previous is not None:
            previous.close()
        return link

    def _let_go(self, link: ProberLink) -> None:
        link.close()
        if self._links.get(link.container) is link:
            del self._links[link.container]

    # What they say.

    def _told(self, link: ProberLink) -> None:
        if self._links.get(link.container) is not link:
            return
        if not link.heard and self._attentive:
            self._spawn_attend(link)
        if link.report.stuck:
            self._kill(link.container, link.report.stuck)
        self._publish(self._reply(link))

    def _kill(self, container_id: str, process: int) -> None:
        """Kill a probe that its prober isn't permitted to kill; what it says is only believed of its container's processes."""
        container = self._containers.get(container_id)
        if container is not None:
            with suppress(CgroupError, OSError), self._cgroups.open(container.record.cgroup) as group:
                kill_member(group.pids, process)

    def _ended(self, link: ProberLink) -> None:
        """A prober is gone: with its container, of whose end its shim will tell in a moment, or by itself."""
        if self._links.get(link.container) is link:
            del self._links[link.container]
            self._sockets.forget(link.container)
            asyncio.get_running_loop().call_later(LOST_SECONDS, self._lost, link)

    def _lost(self, link: ProberLink) -> None:
        """Tell the daemon where the container still runs and nobody probes it."""
        container = self._containers.get(link.container)
        if link.container in self._links or not link.run:
            return
        if container is not None and container.phase == "running" and container.record.run == link.run:
            log.error("container %s: its prober died", link.container)
            self._publish(msgspec.structs.replace(self._reply(link), lost=True))
        else:
            self._news.pop(link.container, None)
            self._numbers.pop(link.container, None)

    def _publish(self, reply: HealthReply) -> None:
        self._latest += 1
        # The newest last, so that who asks needs to look only so far.
        self._news.pop(reply.id, None)
        self._news[reply.id] = reply
        self._numbers[reply.id] = self._latest
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def reports(self, request: HealthReportsRequest) -> HealthReports:
        """The reports that are newer than ``request.after``; waits for one where there are none, for as long as asked."""
        if request.attentive != self._attentive:
            self._attentive = request.attentive
            for link in self._links.values():
                self._spawn_attend(link)
        after = request.after if request.instance == self._instance else 0
        if self._latest <= after:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            with suppress(TimeoutError):
                try:
                    async with asyncio.timeout(request.wait):
                        await waiter
                finally:
                    self._waiting.discard(waiter)
        news = []
        for container_id, reply in reversed(self._news.items()):
            if self._numbers[container_id] <= after:
                break
            news.append(reply)
        return HealthReports(instance=self._instance, latest=self._latest, reports=tuple(reversed(news)))

    async def health(self, container_id: str) -> HealthReply:
        """How a container is, as of now, or as last heard where its prober doesn't answer.

        Raises:
            BusError: NOT_FOUND: it isn't probed.
        """
        link = self._links.get(container_id)
        if link is None or not link.run:
            raise BusError(Code.NOT_FOUND, f"container {container_id} is not probed")
        with suppress(TimeoutError, ProberGoneError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await link.ask()
        return self._reply(link)

    # Rest.

    async def around_freeze(self, container_id: str, freeze: Callable[[str], Awaitable[Empty]]) -> Empty:
        """Let probes rest and freeze the container, with its prober."""
        await self._rest(container_id, resting=True)
        try:
            return await freeze(container_id)
        except BaseException:
            await self._rest(container_id, resting=False)
            raise

    async def around_thaw(self, container_id: str, thaw: Callable[[str], Awaitable[Empty]]) -> Empty:
        """Thaw the container, and let probes go on."""
        result = await thaw(container_id)
        await self._rest(container_id, resting=False)
        return result

    async def _rest(self, container_id: str, *, resting: bool) -> None:
        link = self._links.get(container_id)
        if link is not None:
            with suppress(TimeoutError, ProberGoneError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await link.rest(resting)

    def without_prober(self, container_id: str, processes: ProcessList) -> ProcessList:
        """A container's processes without its prober, which is in the container's cgroup and not of the container."""
        link = self._links.get(container_id)
        prober = link.report.prober if link is not None and link.run else 0
        return ProcessList(pids=tuple(pid for pid in processes.pids if pid != prober))

    def _reply(self, link: ProberLink) -> HealthReply:
        container = self._containers.get(link.container)
        current = container is not None and container.record.run == link.run
        started_at = container.started_at if container is not None and current else 0
        return HealthReply(id=link.container, started_at=started_at, health=link.report.health)

    def _spawn_attend(self, link: ProberLink) -> None:
        async def attend() -> None:
            with suppress(TimeoutError, ProberGoneError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await link.attend(self._attentive)

        task = asyncio.get_running_loop().create_task(attend())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Ends.

    async def recover(self) -> None:
        """Find the probers of an earlier supervisor's, and remove the sockets of those that are gone."""
        running = {container.id: container for container in self._containers.values() if container.phase == "running"}
        self._sockets.sweep(running.keys())
        found = [link for name in self._sockets.names() if name in running and (link := self._connect(name)) is not None]
        greetings = [asyncio.ensure_future(link.greeting()) for link in found]
        if greetings:
            await asyncio.wait(greetings, timeout=ANSWER_SECONDS)
            for greeting in greetings:
                greeting.cancel()
            await asyncio.gather(*greetings, return_exceptions=True)

    def close(self) -> None:
        """Let go of every prober; they go on."""
        for task in self._tasks:
            task.cancel()
        for link in list(self._links.values()):
            link.close()
        self._links.clear()
        self._sockets.sweep({container.id for container in self._containers.values() if container.phase == "running"})
        self._sockets.close()

    def _running(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None:
            raise BusError(Code.NOT_FOUND, f"no container {container_id}")
        if container.phase != "running":
            raise BusError(Code.FAILED_PRECONDITION, f"container {container_id} is not running")
        return container


def foreign(pid: int, pidfd: int) -> int:
    """The flags of the namespaces in which process ``pid`` is and this one isn't.

    Args:
        pid: its number, which may be another's by now.
        pidfd: the process itself.

    Raises:
        ProberGoneError: it has ended.
    """
    flags = 0
    try:
        for kind, flag in _KINDS.items():
            # One that this kernel lacks nobody is in.
            with suppress(FileNotFoundError):
                own = os.readlink(f"/proc/self/ns/{kind}")
                if _namespace(pid, kind) != own:
                    flags |= flag
        # What was read was this process's only if its number can't have become another's meanwhile.
        pidfd_send_signal(pidfd, 0)
    except ProcessLookupError as error:
        raise ProberGoneError("the container is not running") from error
    return flags


def _namespace(pid: int, kind: str) -> str:
    """Which namespace a process is in. Raises ProcessLookupError: in none, as it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except FileNotFoundError as error:
        raise ProcessLookupError(ESRCH, "it has ended", f"/proc/{pid}/ns/{kind}") from error


def kill_member(members: Callable[[], list[int]], process: int) -> None:
    """Kill ``process`` if it is one of ``members``, which are looked up when nobody else can have its number any more."""
    with suppress(ProcessLookupError):
        pidfd = pidfd_open(process)
        try:
            if process in members():
                pidfd_send_signal(pidfd, SIGKILL)
        finally:
            os.close(pidfd)
