"""The shim's own process: its life from the start message to its last report.

starting: the builder makes the container. running: the relay moves bytes, supervisors come and go. draining: process 1 has ended,
its last output is read. ended: the record is durable and reported, clients get their goodbyes.
"""

from __future__ import annotations

import os
import sys
from _signal import SIG_DFL, SIGCHLD, SIGKILL, set_wakeup_fd
from _signal import signal as set_handler
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from collections.abc import Sequence
from contextlib import suppress
from fcntl import ioctl
from select import EPOLLIN, POLLIN, poll
from struct import pack
from time import monotonic, time_ns
from typing import Literal

from msgspec import MsgspecError, Struct

from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.linux.files import close_from
from boxrun.linux.process import PR_SET_CHILD_SUBREAPER, prctl
from boxrun.shim import exits
from boxrun.shim.builder import build
from boxrun.shim.clients import Client, Stream
from boxrun.shim.links import Links
from boxrun.shim.logs import LogWriter, NoLog, open_log
from boxrun.shim.poller import Poller
from boxrun.shim.protocol import (
    Attach,
    Built,
    Cleaned,
    Detached,
    ExitRecord,
    Exited,
    Failed,
    Hello,
    OutOfMemory,
    Request,
    Resize,
    Start,
    Started,
    close_all,
    decode_outcome,
    decode_request,
    encode,
    receive,
)
from boxrun.shim.protocol import Client as ClientSpec
from boxrun.shim.relay import Relay
from boxrun.shim.title import Title

ORDER_SECONDS = 10.0
"""How long a new shim waits for its start message."""

BUILD_SECONDS = 60.0
"""How long making a container may take before it is given up."""

DRAIN_SECONDS = 3.0
"""How long output is read after process 1's end, where something outside of the container holds the pipes open."""

FAREWELL_SECONDS = 10.0
"""How long reports may wait for supervisors that don't read, once the record is durable; how often a refused record is tried again."""

REMOVE_SECONDS = 5.0
"""How long the cgroup's removal may take; what is left is the supervisor's."""

_TIOCSWINSZ = 0x5414
_TIOCGPTPEER = 0x5441

State = Literal["starting", "running", "draining", "ended"]


def run(control: int, cgroups: Cgroups, title: Title) -> int:
    """Be a shim for whoever is at the other end of ``control``; called right after the fork, returns the exit status.

    What is executed here, or imported for it, stays in every shim's memory as pages of its own; so until there is something to
    relay, as little Python as possible runs.
    """
    os.setsid()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    sock = socket(fileno=control)
    order = _order(sock)
    if order is None:
        return 1
    start, fds = order
    if len(fds) != 2 + start.joins + len(start.clients):
        return 1
    title.set(b"boxrun-shim", start.id)
    Shim(start, cgroups, sock, fds).loop()
    return 0


def _order(sock: socket) -> tuple[Start, list[int]] | None:
    """The start message; None where none comes."""
    waiting = poll()
    waiting.register(sock.fileno(), POLLIN)
    if not waiting.poll(ORDER_SECONDS * 1000):
        return None
    try:
        message = receive(sock)
        request = decode_request(message[0]) if message is not None else None
    except (OSError, ValueError, MsgspecError):
        return None
    return (request, message[1]) if message is not None and isinstance(request, Start) else None


class Shim:
    """One container, from the builder to the record of its exit."""

    def __init__(self, start: Start, cgroups: Cgroups, control: socket, fds: list[int]) -> None:
        self._start = start
        self._cgroups = cgroups
        self._state: State = "starting"
        self._pid = 0
        self._pidfd = -1
        self._status = 0
        self._started_at = 0
        self._warnings: tuple[str, ...] = ()
        self._stdin: int | None = None
        self._outputs: dict[int, Stream] = {}
        self._console = -1
        self._slave = -1
        self._oom_fd = -1
        self._oom_kills = 0
        self._record: ExitRecord | None = None
        self._settled = False
        self._patience_over = False
        self._finished_at = 0
        self._due: float | None = monotonic() + BUILD_SECONDS
        self._poller = Poller()
        self._log: LogWriter | None = None
        self._log_error = ""
        self._relay: Relay | None = None
        payload, listener = fds[:2]
        joins = fds[2 : 2 + start.joins]
        for client, fd in zip(start.clients, fds[2 + start.joins :], strict=True):
            self._attach(client, fd)
        self._catch_children()
        self._links = Links(self._poller, socket(fileno=listener), self._hello, self._handle)
        self._builder, self._results, self._pipes = self._fork_builder(control, payload, joins)
        close_all([payload, *joins])
        self._poller.watch(self._results.fileno(), EPOLLIN, self._built)
        self._links.add(control)
        _protect_from_oom()

    def _catch_children(self) -> None:
        """Have the loop woken when a child ends."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        set_handler(SIGCHLD, _ignore)
        set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._poller.watch(reader, EPOLLIN, self._reap)

    def _relaying(self) -> Relay:
        """The relay, from the first byte or client on."""
        relay = self._relay
        if relay is not None:
            return relay
        start = self._start
        try:
            self._log = open_log(start.log)
        except OSError as error:
            self._log, self._log_error = NoLog(), f"log {start.log.path}: {error.strerror}"
        relay = self._relay = Relay(
            self._poller,
            self._log,
            terminal=start.terminal,
            stdin_once=start.stdio.stdin_once,
            detached=lambda: self._links.report(Detached()),
        )
        if self._state != "starting":
            for fd in self._outputs:
                self._poller.forget(fd)
            relay.connect(self._stdin, self._outputs)
        return relay

    def _first_output(self, fd: int, events: int) -> None:
        self._relaying().output_ready(fd, events)

    # Starting.

    def _fork_builder(
        self, control: socket, payload: int, joins: Sequence[int]
    ) -> tuple[int, socket, dict[int, Stream | None]]:
        """Fork the builder; returns its pid, where its outcome comes, and our ends of the pipes (None for stdin's)."""
        theirs: list[int] = []
        ours: dict[int, Stream | None] = {}
        if not self._start.terminal:
            if self._start.stdio.open_stdin:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                theirs.append(reader)
                ours[writer] = None
            else:
                theirs.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
            streams: tuple[Stream, ...] = ("stdout", "stderr")
            for stream in streams:
                reader, writer = os.pipe2(os.O_CLOEXEC)
                theirs.append(writer)
                ours[reader] = stream
        results, outcome = socketpair(AF_UNIX, SOCK_SEQPACKET)
        results.setblocking(False)
        shim = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                set_wakeup_fd(-1)
                set_handler(SIGCHLD, SIG_DFL)
                self._poller.close()
                results.close()
                keep = {control.fileno(), outcome.fileno(), payload, *joins, *theirs}
                _close_all_but(keep)
                stdio = (theirs[0], theirs[1], theirs[2]) if theirs else None
                status = build(self._cgroups, shim, payload, joins, stdio, outcome)
            finally:
                os._exit(status)
        outcome.close()
        close_all(theirs)
        return pid, results, ours

    def _built(self, _fd: int, _events: int) -> None:
        """The builder has something to say, or is gone."""
        if self._state != "starting":
            return
        try:
            message = receive(self._results)
        except BlockingIOError:
            return
        except OSError:
            message = None
        self._poller.forget(self._results.fileno())
        self._results.close()
        if message is None:
            self._fail(Failed(step="start", errno=0, message="the process that made the container died", exit_code=128))
            return
        outcome = decode_outcome(message[0])
        if isinstance(outcome, Failed):
            self._fail(outcome, cleaned=True)
        else:
            self._run(outcome, message[1])

    def _run(self, built: Built, fds: list[int]) -> None:
        self._pid, self._pidfd = built.pid, fds.pop(0)
        self._started_at, self._warnings = built.started_at, built.warnings
        self._state, self._due = "running", None
        for fd, stream in self._pipes.items():
            if stream is None:
                self._stdin = fd
            else:
                self._outputs[fd] = stream
        if built.console:
            self._console = fds.pop(0)
            # With our own hold on the other end, the terminal stays whatever the container's processes close.
            self._slave = ioctl(self._console, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            self._stdin = os.dup(self._console) if self._start.stdio.open_stdin else None
            self._outputs[self._console] = "stdout"
        if built.oom_events:
            self._oom_fd = fds.pop(0)
            os.set_blocking(self._oom_fd, False)
            self._poller.watch(self._oom_fd, built.oom_events, self._out_of_memory)
        started = Started(pid=self._pid, started_at=self._started_at, warnings=self._warnings)
        self._links.report(started, (self._pidfd,))
        if self._relay is not None:
            self._relay.connect(self._stdin, self._outputs)
        else:
            for fd in self._outputs:
                os.set_blocking(fd, False)
                self._poller.watch(fd, EPOLLIN, self._first_output)

    def _fail(self, failed: Failed, *, cleaned: bool = False) -> None:
        self._state, self._due = "ended", None
        if not cleaned:
            self._remove_cgroup()
        for fd in self._pipes:
            os.close(fd)
        if self._relay is not None:
            self._relay.finish()
        self._settled, self._due = True, monotonic() + FAREWELL_SECONDS
        self._links.report(failed)

    # Running.

    def _hello(self) -> list[tuple[Struct, Sequence[int]]]:
        start = self._start
        hello = Hello(
            id=start.id, run=start.run, shim=os.getpid(), pid=self._pid, started_at=self._started_at, warnings=self._warnings
        )
        greeting: list[tuple[Struct, Sequence[int]]] = [(hello, (self._pidfd,) if self._pidfd >= 0 else ())]
        if self._record is not None:
            greeting.append((Exited(record=self._record), ()))
        return greeting

    def _handle(self, request: Request, fds: list[int]) -> str:
        try:
            if isinstance(request, Attach) and len(fds) == 1:
                if self._state in ("starting", "running"):
                    self._attach(request.client, fds.pop())
                    return ""
                return "the container has ended"
            if isinstance(request, Resize):
                return self._resize(request)
            return "the shim doesn't understand the request"
        except (OSError, ValueError) as error:
            return str(error)
        finally:
            close_all(fds)

    def _attach(self, spec: ClientSpec, fd: int) -> None:
        self._relaying().attach(Client(spec, fd, self._start.terminal))

    def _resize(self, request: Resize) -> str:
        if self._console < 0 or self._state != "running":
            return "the container has no terminal"
        ioctl(self._console, _TIOCSWINSZ, pack("4H", request.height & 0xFFFF, request.width & 0xFFFF, 0, 0))
        return ""

    def _out_of_memory(self, fd: int, _events: int) -> None:
        # Reading takes the notice away: an eventfd as it is, cgroup2's file from its start.
        try:
            os.pread(fd, 4096, 0)
        except OSError:
            with suppress(BlockingIOError):
                os.read(fd, 8)
        kills = self._count_oom_kills()
        if kills > self._oom_kills:
            self._oom_kills = kills
            self._links.report(OutOfMemory())

    def _count_oom_kills(self) -> int:
        try:
            with self._cgroups.open(self._start.cgroup) as group:
                return group.oom_kills()
        except (CgroupError, OSError):
            return self._oom_kills

    # Ending.

    def _reap(self, fd: int, _events: int) -> None:
        with suppress(BlockingIOError):
            os.read(fd, 512)
        # The builder speaks before it ends, and only its end makes process 1 our child.
        self._built(fd, EPOLLIN)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._pid and self._state == "running":
                self._status, self._finished_at = status, time_ns()
                self._drain()

    def _drain(self) -> None:
        self._state, self._due = "draining", monotonic() + DRAIN_SECONDS
        if not self._start.own_pid_namespace:
            # In a namespace of its own the kernel has killed the rest already.
            with suppress(CgroupError, OSError), self._cgroups.open(self._start.cgroup) as group:
                group.kill()
        if self._slave >= 0:
            os.close(self._slave)
        relay = self._relaying()
        relay.drain()
        if not relay.open:
            self._conclude()

    def _conclude(self) -> None:
        """Everything is read: record the end durably, then tell."""
        self._state, self._due = "ended", None
        relay = self._relaying()
        relay.abandon_output()
        relay.close_log()
        code = os.waitstatus_to_exitcode(self._status)
        if self._oom_fd >= 0:
            self._poller.forget(self._oom_fd)
            os.close(self._oom_fd)
            self._oom_kills = max(self._oom_kills, self._count_oom_kills())
        self._record = ExitRecord(
            id=self._start.id,
            run=self._start.run,
            pid=self._pid,
            started_at=self._started_at,
            finished_at=self._finished_at,
            exit_code=code if code >= 0 else 128 - code,
            signal=max(-code, 0),
            oom_killed=self._oom_kills > 0,
            error=self._log_error,
            log_dropped=self._log.dropped if self._log is not None else 0,
        )
        self._write_record()
        self._links.report(Exited(record=self._record))
        relay.finish()
        self._remove_cgroup()
        self._links.report(Cleaned())

    def _write_record(self) -> None:
        """Make the record durable; where the disk refuses, somebody has to be told in person before this process may end."""
        self._due = monotonic() + FAREWELL_SECONDS
        if self._record is None:
            return
        try:
            exits.write(self._start.state_dir, self._record)
        except OSError as error:
            sys.stderr.write(f"boxrun-shim {self._start.id}: exit record in {self._start.state_dir}: {error}\n")
        else:
            self._settled = True

    def _remove_cgroup(self) -> None:
        with suppress(CgroupError, OSError):
            self._cgroups.open(self._start.cgroup).remove(REMOVE_SECONDS)

    # The loop.

    def loop(self) -> None:
        """Serve until the container has ended, its end is on record or known, and the last client is gone."""
        while not self._finished():
            due, relay = self._due, self._relay
            if relay is not None and (deadline := relay.deadline()) is not None and (due is None or deadline < due):
                due = deadline
            self._poller.wait(None if due is None else due - monotonic())
            if due is not None and due <= (now := monotonic()):
                if relay is not None:
                    relay.expire(now)
                if self._due is not None and self._due <= now:
                    self._expire()
            if self._state == "draining" and not self._relaying().open:
                self._conclude()
        self._links.close()

    def _finished(self) -> bool:
        if self._state != "ended":
            return False
        told = self._links.flushed and (self._settled or self._links.count > 0)
        return (told or self._patience_over) and (self._relay is None or not self._relay.busy)

    def _expire(self) -> None:
        self._due = None
        if self._state == "starting":
            os.kill(self._builder, SIGKILL)
            seconds = f"{BUILD_SECONDS:.0f}"
            self._fail(Failed(step="start", errno=0, message=f"the container was not made within {seconds} s", exit_code=128))
        elif self._state == "draining":
            self._conclude()
        elif self._settled:
            self._patience_over = True
        else:
            self._write_record()


def _close_all_but(keep: set[int]) -> None:
    """Close every descriptor from 3 on but these."""
    first = 3
    for fd in sorted(keep):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    close_from(first)


def _protect_from_oom() -> None:
    """Let the kernel kill the container rather than its shim, where that is permitted (CAP_SYS_RESOURCE)."""
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"-999")
    except OSError:
        pass
    finally:
        os.close(fd)


def _ignore(_signum: int, _frame: object) -> None:
    """Have the signal noticed, by way of the wake-up descriptor."""
