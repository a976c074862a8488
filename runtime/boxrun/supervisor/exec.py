"""One exec as the supervisor knows it: what its shim has said, and what happens when a shim can't say it any more."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from signal import SIGKILL
from time import time_ns

from boxrun.errors import ShimError
from boxrun.linux.process import pidfd_send_signal
from boxrun.shim import exits
from boxrun.shim.protocol import Detached, Exited, ExitRecord, Failed, Hello, Idle, Joined, Report, Started
from boxrun.shim.wire import close_all
from boxrun.supervisor.contract import ExecStatus, Phase, RuntimeEvent
from boxrun.supervisor.execdir import ExecDirectory, ExecRecord
from boxrun.supervisor.link import ShimLink
from boxrun.supervisor.outcome import NeverGreetedError, Outcome
from boxrun.supervisor.watchers import Watchers

log = logging.getLogger(__name__)


class Exec:
    """A further program in a container, from its start to its release."""

    def __init__(
        self,
        record: ExecRecord,
        directory: ExecDirectory,
        watchers: Watchers,
        recycle: Callable[[socket.socket, str], None],
    ) -> None:
        """``recycle`` takes the connection to a shim that is ready for another exec, and whose."""
        self.record = record
        self.phase: Phase = "starting"
        self.pid = 0
        self.pidfd = -1
        self.started_at = 0
        self.shim_pid = 0
        self.exit: ExitRecord | None = None
        self.link: ShimLink | None = None
        self.greeted = asyncio.Event()
        self.outcome = Outcome()
        self._recycle = recycle
        self._directory = directory
        self._watchers = watchers

    @property
    def status(self) -> ExecStatus:
        """What is known."""
        record, end = self.record, self.exit
        if end is None:
            return ExecStatus(
                exec_id=record.id, container=record.container, phase=self.phase, pid=self.pid, started_at=self.started_at
            )
        return ExecStatus(
            exec_id=record.id,
            container=record.container,
            phase="exited",
            pid=end.pid,
            started_at=end.started_at,
            finished_at=end.finished_at,
            exit_code=end.exit_code,
            lost=end.lost,
            error=end.error,
        )

    def connect(self, sock: socket.socket) -> ShimLink:
        """Have ``sock`` as the connection to the shim."""
        self.link = ShimLink(sock, self._reported, self._ended)
        return self.link

    def _reported(self, link: ShimLink, report: Report, fds: list[int]) -> None:
        if link is self.link:
            match report:
                case Hello():
                    self.greeted.set()
                    self.shim_pid = report.shim
                    if report.pid and self.phase == "starting":
                        self._start(Started(pid=report.pid, started_at=report.started_at, warnings=report.warnings), fds)
                case Joined():
                    self._join(report, fds)
                case Started():
                    self._start(report, fds)
                case Failed():
                    self.outcome.settle(report)
                    if not self.outcome.awaited:
                        # The supervisor that was to be told is dead.
                        self._end(self._ending(report.exit_code, report.message))
                case Exited():
                    self._end(report.record)
                case Detached():
                    self._publish("exec_detached")
                case Idle():
                    self.link = None
                    self._recycle(link.release(), self.record.container)
                case _:
                    pass
        close_all(fds)

    def _join(self, joined: Joined, fds: list[int]) -> None:
        """The process is there, but has not been let go; there may have been another one before, which is dead."""
        if self.phase == "starting" and fds:
            self._close_pidfd()
            self.pid, self.pidfd = joined.pid, fds.pop(0)

    def _start(self, started: Started, fds: list[int]) -> None:
        if self.phase != "starting":
            return
        self.phase, self.pid, self.started_at = "running", started.pid, started.started_at
        if fds and self.pidfd < 0:
            self.pidfd = fds.pop(0)
        self.outcome.settle(started)
        self._publish("exec_started")

    def _end(self, record: ExitRecord) -> None:
        if self.exit is not None:
            return
        self.phase, self.exit = "exited", record
        self._close_pidfd()
        self.outcome.settle(ShimError("the exec ended before its start was reported"))
        self._publish("exec_exited")

    def _publish(self, kind: str) -> None:
        self._watchers.publish(RuntimeEvent(kind=kind, exec=self.status))

    def _ended(self, link: ShimLink) -> None:
        """The connection is over: the shim has ended, died, or cut us off."""
        if link is not self.link:
            return
        self.link = None
        if self.phase == "exited":
            return
        if self.phase == "starting" and self.outcome.awaited:
            if self.greeted.is_set():
                self.signal(SIGKILL)
                self.outcome.settle(ShimError("the exec's shim died while it started the program"))
            else:
                self.outcome.settle(NeverGreetedError("the exec's shim died before it had begun"))
        else:
            self.recover()

    def recover(self) -> None:
        """Find the shim again; where there is none, find out or settle how the exec ended."""
        try:
            sock = self._directory.connect(self.record.id)
        except OSError as error:
            log.error("exec %s: its shim listens but can't be reached: %s", self.record.id, error)
            if isinstance(error, BlockingIOError):
                return
            sock = None
        if sock is not None:
            self.connect(sock)
            return
        record = self._directory.exit(self.record)
        if record is None:
            log.error("exec %s: its shim is dead and left no exit record", self.record.id)
            self.signal(SIGKILL)
            record = self._ending(exits.LOST_EXIT_CODE, "the exec's shim died, so its exit status is unknown", lost=True)
        self._end(record)

    def _ending(self, exit_code: int, error: str, *, lost: bool = False) -> ExitRecord:
        return ExitRecord(
            id=self.record.id,
            run=self.record.run,
            pid=self.pid,
            started_at=self.started_at,
            finished_at=time_ns(),
            exit_code=exit_code,
            lost=lost,
            error=error,
        )

    def signal(self, signum: int) -> bool:
        """Signal the program, as long as its descriptor can tell who it is; whether there is one."""
        if self.pidfd < 0:
            return False
        try:
            pidfd_send_signal(self.pidfd, signum)
        except ProcessLookupError:
            return False
        return True

    def abandon(self) -> None:
        """Let go of a start that failed, and end its process and its shim where they are still at it."""
        self.signal(SIGKILL)
        shim, alive = self.shim_pid, self.link is not None and not self.outcome.known
        self.forget()
        if alive and shim:
            with suppress(ProcessLookupError):
                os.kill(shim, SIGKILL)

    def depart(self) -> None:
        """Remove what there is of one that has ended; its shim still has to say when it is done with its clients."""
        self._directory.forget(self.record.id)
        self._close_pidfd()

    def forget(self) -> None:
        """Remove what there is of it in the run directory, and let go of the shim."""
        self._directory.forget(self.record.id)
        self.close()

    def close(self) -> None:
        """Let go of the shim, which goes on."""
        link, self.link = self.link, None
        if link is not None:
            link.close()
        self._close_pidfd()

    def _close_pidfd(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
