"""One container as the supervisor knows it: what its shim has said, and what happens when a shim can't say it any more."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from signal import SIGKILL
from time import time_ns

from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.errors import ShimError
from boxrun.linux.process import pidfd_send_signal
from boxrun.oci.bundle import Bundle
from boxrun.shim import exits
from boxrun.shim.protocol import (
    Cleaned,
    Cloned,
    Detached,
    Exited,
    ExitRecord,
    Failed,
    Hello,
    Idle,
    LogDropped,
    OutOfMemory,
    Report,
    RunRecord,
    Started,
)
from boxrun.shim.wire import close_all
from boxrun.supervisor.admission import GroupLock
from boxrun.supervisor.contract import ContainerStatus, Phase, RuntimeEvent
from boxrun.supervisor.link import ShimLink
from boxrun.supervisor.outcome import NeverGreetedError, Outcome
from boxrun.supervisor.rundir import RunDirectory
from boxrun.supervisor.watchers import Watchers

log = logging.getLogger(__name__)

CLEAN_SECONDS = 15.0
"""How long a shim may take to remove its container's cgroup after the exit."""

REMOVE_SECONDS = 10.0
"""How long a dead shim's container may take to die."""


class Container:
    """A container, from its start to its release.

    Attributes:
        traceable: a process in it, or in its pid namespace, may have the power to trace others (CAP_SYS_PTRACE); where this
            supervisor hasn't started it, nobody knows.
    """

    def __init__(
        self,
        record: RunRecord,
        run: RunDirectory,
        cgroups: Cgroups,
        watchers: Watchers,
        recycle: Callable[[socket.socket], None],
    ) -> None:
        """``recycle`` takes the connection to a shim that is ready for another container."""
        self.record = record
        self.phase: Phase = "starting"
        self.pid = 0
        self._pidfd = -1
        self.started_at = 0
        self.warnings: tuple[str, ...] = ()
        self.exit: ExitRecord | None = None
        self.link: ShimLink | None = None
        self.cleaned = asyncio.Event()
        self.greeted = asyncio.Event()
        self.outcome = Outcome()
        self.shim_pid = 0
        self.log_dropped = 0
        self.paused = False
        self.group_lock = GroupLock()
        self.traceable = True
        self.on_clone: Callable[[int], None] | None = None
        """Has the sandbox plugged where the container makes it itself; the descriptor of ``Cloned`` is its own."""
        self._tidy = False
        self._forgotten = False
        self._recycle = recycle
        self._run = run
        self._cgroups = cgroups
        self._watchers = watchers
        self._losing: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        """The container's id."""
        return self.record.id

    @property
    def pidfd(self) -> int:
        """A descriptor of process 1; -1 where there is none, or none can be had."""
        if self._pidfd < 0 and self.phase == "running":
            # The one that the shim sent was lost on the way, for want of a free descriptor.
            with suppress(OSError):
                self._pidfd = self._process_of_ours()
        return self._pidfd

    def _process_of_ours(self) -> int:
        """A descriptor of process 1 by its number, where that isn't somebody else's by now. Raises OSError."""
        pidfd = os.pidfd_open(self.pid)
        try:
            with open(f"/proc/{self.pid}/cgroup") as file:
                ours = self.id in file.read()
        except OSError:
            ours = False
        if not ours:
            os.close(pidfd)
            raise ProcessLookupError(f"container {self.id} has no process")
        return pidfd

    @property
    def status(self) -> ContainerStatus:
        """What is known."""
        end = self.exit
        if end is None:
            return ContainerStatus(
                id=self.id,
                phase=self.phase,
                pid=self.pid,
                started_at=self.started_at,
                paused=self.paused,
                log_dropped=self.log_dropped,
            )
        return ContainerStatus(
            id=self.id,
            phase="exited",
            pid=end.pid,
            started_at=end.started_at,
            finished_at=end.finished_at,
            exit_code=end.exit_code,
            signal=end.signal,
            oom_killed=end.oom_killed,
            lost=end.lost,
            error=end.error,
            log_dropped=end.log_dropped,
        )

    # The link.

    def connect(self, sock: socket.socket) -> ShimLink:
        """Have ``sock`` as the connection to the shim."""
        self.link = ShimLink(sock, self.reported, self.ended)
        return self.link

    def reported(self, link: ShimLink, report: Report, fds: list[int]) -> None:
        """The shim said something."""
        if link is not self.link:
            close_all(fds)
            return
        match report:
            case Hello():
                self._greet(report, fds)
            case Cloned() if fds and self.on_clone is not None:
                self.on_clone(fds.pop(0))
            case Started():
                self._start(report, fds)
            case Failed():
                self._fail(report)
            case Exited():
                self._end(report.record)
            case Cleaned():
                self._tidy = True
                self.cleaned.set()
            case OutOfMemory():
                self._publish("oom")
            case Detached():
                self._publish("detached")
            case LogDropped():
                self.log_dropped = report.messages
            case Idle():
                self.link = None
                self._recycle(link.release())
        close_all(fds)

    def _greet(self, hello: Hello, fds: list[int]) -> None:
        self.greeted.set()
        self.shim_pid = hello.shim
        self.log_dropped = hello.log_dropped
        if hello.pid and self.phase == "starting":
            started = Started(pid=hello.pid, started_at=hello.started_at, warnings=hello.warnings)
            self._start(started, fds)

    def _start(self, started: Started, fds: list[int]) -> None:
        self.phase, self.pid, self.started_at, self.warnings = "running", started.pid, started.started_at, started.warnings
        if fds and self._pidfd < 0:
            self._pidfd = fds.pop(0)
        self.outcome.settle(started)
        self._publish("started")

    def _fail(self, failed: Failed) -> None:
        self.outcome.settle(failed)
        if not self.outcome.awaited:
            # The supervisor that was to be told is dead: its successor's watchers are told instead.
            self._end(self._ending(failed.exit_code, failed.message))

    def _end(self, record: ExitRecord) -> None:
        if self.exit is not None:
            return
        self.phase, self.exit, self.paused = "exited", record, False
        self._close_pidfd()
        self.outcome.settle(ShimError("the container ended before its start was reported"))
        self._publish("exited")

    def _publish(self, kind: str) -> None:
        if self._forgotten:
            return
        self._watchers.publish(RuntimeEvent(kind=kind, status=self.status))

    def ended(self, link: ShimLink) -> None:
        """The connection is over: the shim has ended, died, or cut us off."""
        if link is not self.link:
            return
        self.link = None
        if self.phase == "exited":
            self.cleaned.set()
        elif self.phase == "starting" and self.outcome.awaited:
            if self.greeted.is_set():
                self.outcome.settle(ShimError("the container's shim died while it made the container"))
            else:
                self.outcome.settle(NeverGreetedError("the container's shim died before it had begun"))
        else:
            self._losing = asyncio.get_running_loop().create_task(self.recover())

    # Without a shim.

    async def recover(self) -> None:
        """Find the shim again; where there is none, find out or settle how the container ended."""
        try:
            sock = self._run.connect(self.id)
        except OSError as error:
            log.error("container %s: its shim listens but can't be reached: %s", self.id, error)
            sock = None
            if isinstance(error, BlockingIOError):
                return
        if sock is not None:
            self.connect(sock)
            return
        record = exits.read(self.record.state_dir, self.record.run)
        if record is None:
            record = await self._bury()
        self._end(record)
        self.cleaned.set()

    async def _bury(self) -> ExitRecord:
        """Kill what a dead shim has left behind, and put on record that nobody knows how it ended."""
        log.error("container %s: its shim is dead and left no exit record", self.id)
        await self.remove_cgroup()
        record = self._ending(exits.LOST_EXIT_CODE, "the container's shim died, so its exit status is unknown", lost=True)
        try:
            await asyncio.to_thread(exits.write, self.record.state_dir, record)
        except OSError as error:
            log.error("container %s: exit record: %s", self.id, error)
        return record

    def _ending(self, exit_code: int, error: str, *, lost: bool = False) -> ExitRecord:
        return ExitRecord(
            id=self.id,
            run=self.record.run,
            pid=self.pid,
            started_at=self.started_at,
            finished_at=time_ns(),
            exit_code=exit_code,
            lost=lost,
            error=error,
        )

    async def remove_cgroup(self) -> None:
        """Kill whatever is left in the container's cgroup, and remove it. One that is gone is fine."""
        if self._tidy:
            return
        try:
            await asyncio.to_thread(self._remove_cgroup)
        except (CgroupError, OSError) as error:
            log.error("container %s: remove its cgroup: %s", self.id, error)
        else:
            self._tidy = True

    def _remove_cgroup(self) -> None:
        Bundle(self.record.state_dir).remove()
        try:
            group = self._cgroups.open(self.record.cgroup)
        except CgroupError:
            return
        with group:
            group.remove(REMOVE_SECONDS)

    # Requests.

    def signal(self, signum: int) -> None:
        """Signal process 1. Raises OSError: it has ended already (ProcessLookupError), or nobody is told who it is."""
        if self.pidfd < 0:
            raise ProcessLookupError(f"container {self.id} has no process")
        pidfd_send_signal(self.pidfd, signum)

    def signal_everyone(self, signum: int) -> None:
        """Signal every process. Raises CgroupError."""
        with self._cgroups.open(self.record.cgroup) as group:
            group.signal(signum)

    def kill(self) -> None:
        """Kill every process."""
        with suppress(CgroupError, OSError), self._cgroups.open(self.record.cgroup) as group:
            group.kill()

    async def clean(self) -> None:
        """Wait until nothing of an ended container is left but its record; at most as long as that may take."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_SECONDS):
                await self.cleaned.wait()
        await self.remove_cgroup()

    def abandon(self) -> None:
        """Let go of a start that failed, and end its shim where that is still at it."""
        shim, alive = self.shim_pid, self.link is not None and not self.outcome.known
        self.close()
        if alive and shim:
            with suppress(ProcessLookupError):
                os.kill(shim, SIGKILL)

    async def expose(self) -> None:
        """From now on a process may trace others in it; those that count on the contrary are waited for."""
        if not self.traceable:
            async with self.group_lock:
                self.traceable = True

    def join_descriptor(self) -> int:
        """The descriptor through which others join this container's namespaces, -1 where it doesn't run."""
        return self.pidfd if self.phase == "running" else -1

    def forget(self) -> None:
        """Remove the note and the socket in the run directory, and let go of the shim.

        One whose container has ended has still to say that it is ready for another: the event loop has its connection.
        """
        self._run.forget(self.id)
        self._forgotten = True
        if self.link is None or self.phase != "exited":
            self.close()
        self._close_pidfd()

    def close(self) -> None:
        """Let go of the shim, which goes on."""
        link, self.link = self.link, None
        if link is not None:
            link.close()
        if self._losing is not None:
            self._losing.cancel()
        self._close_pidfd()

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
