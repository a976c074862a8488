"""One container's caretaker: makes it, moves its bytes, answers supervisors, and records its end.

starting: the container is made. running: the relay moves bytes, supervisors come and go; after a quiet while the worker
parks, and another goes on from there (see ``boxrun.shim.keeper``). draining: process 1 has ended, its last output is read.
ended: the record is durable and reported, clients get their goodbyes.

The worker itself is never in a container, so when one that it made has ended it can serve another: what would be forked, copied
page by page and torn down for each is not. ``Caretaker.spare`` is then the connection on which the next order comes.
"""

from __future__ import annotations

import os
from _socket import socket
from collections.abc import Sequence
from contextlib import suppress
from select import EPOLLIN
from time import monotonic, time_ns
from typing import ClassVar, Literal, NoReturn

from msgspec import Struct, structs

from boxrun.container.cgroups import Cgroups
from boxrun.container.cgroups.errors import CgroupError
from boxrun.errors import LogDriverError, StartFault
from boxrun.shim import exits
from boxrun.shim.builder import Built, build
from boxrun.shim.children import adopt_orphans, childless
from boxrun.shim.clients import Client
from boxrun.shim.complaints import complain
from boxrun.shim.links import Links
from boxrun.shim.logs import LogWriter, NoLog, Position, open_log
from boxrun.shim.memory import MemoryWatch
from boxrun.shim.parking import hand_over, reap
from boxrun.shim.poller import Poller
from boxrun.shim.protocol import (
    Attach,
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
    Parked,
    Request,
    Resize,
    Role,
    Start,
    Started,
    decode_payload,
)
from boxrun.shim.protocol import Client as ClientSpec
from boxrun.shim.relay import Relay
from boxrun.shim.streams import Streams
from boxrun.shim.wire import close_all, encode, read_memfd, send

DRAIN_SECONDS = 3.0
"""How long output is read after process 1's end, where something outside of the container holds the pipes open."""

FAREWELL_SECONDS = 10.0
"""How long reports wait for supervisors that don't read, and how often a record that the disk refused is tried again."""

PARK_SECONDS = 1.0
"""How long nothing may happen before the worker parks."""

REMOVE_SECONDS = 5.0
"""How long the cgroup's removal may take; what is left is the supervisor's."""

SERVICES = 100
"""How many orders a process serves at most: of each a stack and a thread's state stay behind (``boxrun.linux.vfork``)."""

State = Literal["starting", "running", "draining", "ended"]


class Caretaker:
    """One container, for as long as something happens.

    Attributes:
        spare: where the next order comes from, None where this process can't serve another; known when the loop is over.
    """

    served: ClassVar[int] = 0
    """The orders that this process has served."""

    def __init__(self, keeper: socket, cgroups: Cgroups) -> None:
        self.spare: socket | None = None
        self._control: socket | None = None
        self._keeper = keeper
        self._cgroups = cgroups
        self._state: State = "starting"
        self._maker = False
        self._pid = 0
        self._pidfd = -1
        self._status = 0
        self._started_at = 0
        self._finished_at = 0
        self._warnings: tuple[str, ...] = ()
        self._gate = -1
        self._streams = Streams()
        self._record: ExitRecord | None = None
        self._settled = False
        self._patience_over = False
        self._due: float | None = None
        self._log: LogWriter = NoLog()
        self._log_error = ""
        self._poller = Poller()

    # Starting.

    def begin(self, control: socket, start: Start, fds: Sequence[int]) -> None:
        """Make the container that was ordered on ``control``, with the descriptors that came along."""
        payload, listener = fds[:2]
        after = 2 + start.joins
        joins, gates, clients = fds[2:after], fds[after : after + start.gated], fds[after + start.gated :]
        self._start = start
        self._maker = True
        Caretaker.served += 1
        self._control = control if self._repeatable(start) and Caretaker.served < SERVICES else None
        self._links = Links(self._poller, socket(fileno=listener), self._hello, self._handle)
        self._links.add(control)
        try:
            self._prepare(start.clients, clients)
            self._gate = gates[0] if gates else -1
            self._make(read_memfd(payload), joins)
        except StartFault as fault:
            self._fail(Failed(step=fault.step, errno=fault.errno, message=fault.message, exit_code=fault.exit_code))
        close_all([payload, *joins, *gates])

    def _repeatable(self, start: Start) -> bool:
        """Whether another order may follow ``start`` in this process, whose memory knows of it."""
        return start.secluded

    def _spoils(self, failed: Failed) -> bool:
        """Whether this process can't be relied on any more: who borrowed its memory may have been killed in the midst of it."""
        return True

    def _prepare(self, clients: Sequence[ClientSpec], fds: Sequence[int]) -> None:
        """Open the log and take in the clients, so that no byte of output can pass them by."""
        self._open_log()
        if self._log_error:
            raise StartFault("log", 0, self._log_error)
        for client, fd in zip(clients, fds, strict=True):
            try:
                self._attach(client, fd)
            except (OSError, ValueError) as error:
                raise StartFault("attach", getattr(error, "errno", 0) or 0, f"attach a client: {error}") from error

    def _open_log(self, channel: int = -1) -> None:
        """Open the log; where that fails, what went wrong is noted and the output is for clients only."""
        log = self._start.log
        try:
            self._log = open_log(log, channel)
        except OSError as error:
            self._log, self._log_error = NoLog(), f"open log {log.path}: {error.strerror}"
        except LogDriverError as error:
            self._log, self._log_error = NoLog(), f"failed to initialize logging driver: {error}"
        self._relay = Relay(
            self._poller,
            self._log,
            terminal=self._start.terminal,
            stdin_once=self._start.stdio.stdin_once,
            detached=lambda: self._links.report(Detached()),
            log_dropped=lambda messages: self._links.report(LogDropped(messages=messages)),
            name=self._start.id,
        )

    def _make(self, payload: bytes, joins: Sequence[int]) -> None:
        if not self._start.own_pid_namespace:
            # Such a container's worker never parks.
            adopt_orphans(self._poller, self._reaped)
        stdio = self._start.stdio
        theirs = [] if self._start.terminal else self._streams.pipes(open_stdin=stdio.open_stdin)
        try:
            built = self._build(payload, joins, (theirs[0], theirs[1], theirs[2]) if theirs else None)
        finally:
            close_all(theirs)
        self._pid, self._pidfd, self._started_at, self._warnings = built.pid, built.pidfd, built.started_at, built.warnings
        self._memory = MemoryWatch(self._cgroups, self._start.cgroup, built.oom_fd, built.oom_events)
        if built.console >= 0:
            self._streams.terminal(built.console, open_stdin=stdio.open_stdin)
        self._links.report(Started(pid=self._pid, started_at=self._started_at, warnings=self._warnings), (self._pidfd,))
        self._look_after()

    def _build(self, payload: bytes, joins: Sequence[int], stdio: tuple[int, int, int] | None) -> Built:
        plug = self._plug if self._start.plugged_inside else None
        return build(self._cgroups, decode_payload(payload), joins, stdio, gate=self._gate, plug=plug)

    def _plug(self, namespace: int) -> None:
        self._links.report(Cloned(), (namespace,))

    def _look_after(self) -> None:
        """Wait for what the running container does."""
        self._state = "running"
        self._poller.watch(self._pidfd, EPOLLIN, self._ended)
        if self._memory.fd >= 0:
            self._poller.watch(self._memory.fd, self._memory.events, self._out_of_memory)
        self._relay.connect(self._streams.stdin, self._streams.outputs)

    def _reaped(self, pid: int) -> bool:
        """Whether the process that has ended was the container's first, and is reaped therefore."""
        if pid != self._pid or self._state != "running":
            return False
        self._ended(self._pidfd, EPOLLIN)
        return True

    def _fail(self, failed: Failed) -> None:
        self._state, self._settled, self._due = "ended", True, monotonic() + FAREWELL_SECONDS
        if self._spoils(failed):
            self._control = None
        self._streams.close()
        self._relay.finish()
        self._relay.close_log()
        self._links.report(failed)

    # Parking.

    @property
    def _quiet(self) -> bool:
        """True where nothing is under way that a worker would have to be there for."""
        return self._state == "running" and self._start.own_pid_namespace and self._relay.idle and self._links.flushed

    def _park(self) -> NoReturn:
        """Hand everything over to the keeper."""
        parked = Parked(
            start=structs.replace(self._start, clients=()),
            pid=self._pid,
            started_at=self._started_at,
            warnings=self._warnings,
            oom_events=self._memory.events,
            oom_kills=self._memory.kills,
            begun=self._relay.suspend_log(),
            log_dropped=self._log.dropped,
            roles=(),
        )
        self._streams.outputs, self._streams.stdin = self._relay.outputs, self._relay.stdin
        hand_over(self._keeper, parked, self._roles())

    def _roles(self) -> list[tuple[Role, int]]:
        """Every descriptor that a successor needs."""
        roles: list[tuple[Role, int]] = [("listener", self._links.listener), ("pidfd", self._pidfd)]
        roles += [("link", fd) for fd in self._links.fds]
        roles += self._streams.roles()
        if self._memory.fd >= 0:
            roles.append(("oom", self._memory.fd))
        if self._log.channel >= 0:
            roles.append(("log", self._log.channel))
        return roles

    def resume(self, parked: Parked, fds: Sequence[int]) -> None:
        """Go on from where a worker has parked."""
        self._start, self._pid, self._started_at = parked.start, parked.pid, parked.started_at
        self._warnings = parked.warnings
        # A log that can't be opened again doesn't hold the container up: the record of its exit will say so.
        self._open_log(next((fd for role, fd in zip(parked.roles, fds, strict=True) if role == "log"), -1))
        self._relay.log_dropped = parked.log_dropped
        for stream, begun in parked.begun.items():
            self._log.write(stream, begun)
        links, oom = [], -1
        for role, fd in zip(parked.roles, fds, strict=True):
            match role:
                case "listener":
                    self._links = Links(self._poller, socket(fileno=fd), self._hello, self._handle)
                case "link":
                    links.append(fd)
                case "pidfd":
                    self._pidfd = fd
                case "oom":
                    oom = fd
                case _:
                    self._streams.resume(role, fd)
        self._memory = MemoryWatch(self._cgroups, self._start.cgroup, oom, parked.oom_events, parked.oom_kills)
        for fd in links:
            self._links.resume(socket(fileno=fd))
        self._look_after()

    # Running.

    def _hello(self) -> list[tuple[Struct, Sequence[int]]]:
        start = self._start
        hello = Hello(
            id=start.id,
            run=start.run,
            shim=os.getppid(),
            pid=self._pid,
            started_at=self._started_at,
            warnings=self._warnings,
            log_dropped=self._log.dropped,
        )
        greeting: list[tuple[Struct, Sequence[int]]] = [(hello, (self._pidfd,) if self._pidfd >= 0 else ())]
        if self._record is not None:
            greeting.append((Exited(record=self._record), ()))
        return greeting

    def _handle(self, request: Request, fds: list[int]) -> str | Position:
        try:
            if isinstance(request, Attach) and len(fds) == 1 + request.gated:
                if self._state != "running":
                    return "the container has ended"
                client = Client(request.client, fds.pop(0), self._start.terminal)
                if request.gated:
                    return self._relay.attach_gated(client, fds.pop())
                self._relay.attach(client)
                return ""
            if isinstance(request, Resize):
                return self._resize(request)
            return "the shim doesn't understand the request"
        except (OSError, ValueError) as error:
            return str(error)
        finally:
            close_all(fds)

    def _attach(self, spec: ClientSpec, fd: int) -> None:
        self._relay.attach(Client(spec, fd, self._start.terminal))

    def _resize(self, request: Resize) -> str:
        if self._streams.console < 0 or self._state != "running":
            return "the container has no terminal"
        self._streams.resize(request.height, request.width)
        return ""

    def _out_of_memory(self, _fd: int, _events: int) -> None:
        if self._memory.noticed():
            self._links.report(OutOfMemory())

    # Ending.

    def _ended(self, fd: int, _events: int) -> None:
        """Process 1 has ended: collect its status, and what is left of its output."""
        self._poller.forget(fd)
        self._finished_at = time_ns()
        if self._maker:
            self._status = os.waitpid(self._pid, 0)[1]
        else:
            self._status = reap(self._keeper, self._pid)
        self._state, self._due = "draining", monotonic() + DRAIN_SECONDS
        if not self._start.own_pid_namespace:
            # In a namespace of its own the kernel has killed the rest already.
            self._kill_rest()
        self._streams.release_terminal()
        self._relay.drain()

    def _kill_rest(self) -> None:
        with suppress(CgroupError, OSError), self._cgroups.open(self._start.cgroup) as group:
            group.kill()

    def _conclude(self) -> None:
        """Everything is read: record the end durably, then tell."""
        self._state, self._due = "ended", None
        self._relay.abandon_output()
        self._relay.close_log()
        code = os.waitstatus_to_exitcode(self._status)
        if self._memory.fd >= 0:
            self._poller.forget(self._memory.fd)
            self._memory.close()
            self._memory.count()
        self._record = ExitRecord(
            id=self._start.id,
            run=self._start.run,
            pid=self._pid,
            started_at=self._started_at,
            finished_at=self._finished_at,
            exit_code=code if code >= 0 else 128 - code,
            signal=max(-code, 0),
            oom_killed=self._memory.kills > 0,
            error=self._log_error,
            log_dropped=self._log.dropped,
        )
        self._write_record()
        self._links.report(Exited(record=self._record))
        self._relay.finish()
        self._tidy_up()

    def _tidy_up(self) -> None:
        """Remove the cgroup, so that nothing is left of the container; where it can't be, the supervisor does it."""
        try:
            self._cgroups.open(self._start.cgroup).remove(REMOVE_SECONDS)
        except (CgroupError, OSError) as error:
            complain(f"boxrun-shim {self._start.id}", f"remove its cgroup: {error}")
            self._control = None
        else:
            self._links.report(Cleaned())

    def _write_record(self) -> None:
        """Make the record durable; where the disk refuses, somebody has to be told in person before this process may end."""
        self._due = monotonic() + FAREWELL_SECONDS
        if self._record is None:
            return
        try:
            self._save(self._record)
        except OSError as error:
            complain(f"boxrun-shim {self._start.id}", f"exit record in {self._start.state_dir}: {error}")
        else:
            self._settled = True

    def _save(self, record: ExitRecord) -> None:
        exits.write(self._start.state_dir, record)

    # The loop.

    def loop(self) -> None:
        """Serve until the container has ended, somebody knows, and the last client is gone."""
        while not self._finished():
            due, relayed = self._due, self._relay.deadline()
            if relayed is not None and (due is None or relayed < due):
                due = relayed
            quiet = due is None and self._quiet
            happened = self._poller.wait(PARK_SECONDS if quiet else None if due is None else due - monotonic())
            if quiet and not happened and self._quiet:
                self._park()
            if due is not None and due <= (now := monotonic()):
                self._relay.expire(now)
                if self._due is not None and self._due <= now:
                    self._expire()
            if self._state == "draining" and not self._relay.open:
                self._conclude()
        self._part()

    def _part(self) -> None:
        """Let go of the supervisors: everything is done and told. The one that gave the order may have another."""
        control = self._control
        # Who still sends a log or compresses one is this container's; the next one's process begins without.
        if control is not None and not self._log_error and childless() and self._links.take(control):
            control.setblocking(True)
            with suppress(OSError):
                send(control, encode(Idle()))
                self.spare = control
        self._links.close()
        self._poller.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def _finished(self) -> bool:
        if self._state != "ended":
            return False
        told = self._links.flushed and (self._settled or self._links.count > 0)
        return (told or self._patience_over) and not self._relay.busy

    def _expire(self) -> None:
        self._due = None
        if self._state == "draining":
            self._conclude()
        elif self._settled:
            self._patience_over = True
        elif self._state == "ended":
            self._write_record()
