"""A container's prober: probes when it is time to, and tells its supervisor what matters.

It begins as a shim's keeper (``boxrun.shim.keeper``), has entered the container when its loop begins, and ends with the
container. A result is told when it changes something, when it is a failure, or when somebody wants every result; the rest is
told to whoever asks. So a container that is well costs no more than its probes.
"""

from __future__ import annotations

import os
from _socket import socket
from contextlib import suppress
from errno import EPERM
from select import POLLIN, poll
from struct import unpack
from time import monotonic_ns, time_ns
from typing import NoReturn

from msgspec import MsgspecError, Struct, ValidationError

from boxrun.errors import BoxrunError
from boxrun.linux.process import pidfd_open
from boxrun.prober import confine, words
from boxrun.prober.launch import Confined, Direct, Launcher, LaunchError, drain
from boxrun.prober.monitor import Monitor
from boxrun.prober.plan import Plan, decode_plan
from boxrun.prober.protocol import MAX_OUTPUT, MESSAGE_LIMIT, Attend, ProbeResult, Report, Request, Rest, Unable, decode_request
from boxrun.shim.wire import encode, read_memfd, receive_inline, send_inline

PATIENCE_NS = 50_000_000
"""How long a probe may run before its output is read: nearly all have ended by then, and their output fits into the pipe."""

MAX_LINKS = 4
"""Supervisors that are listened to; there is one, and for a moment its successor."""

_KILL = 9


def probe(control: int, descriptors: bytes) -> NoReturn:
    """Be the prober of a container, until that ends.

    Args:
        control: the connection to the supervisor that asked for it.
        descriptors: four bytes each: the memfd with the plan, the listening socket, the container's process 1, and what
            ``boxrun.prober.plan.prepare`` has opened.
    """
    status = 1
    try:
        fds = unpack(f"{len(descriptors) // 4}i", descriptors)
        plan = decode_plan(read_memfd(fds[0]))
        link = socket(fileno=control)
        try:
            null, pid_namespace = confine.enter(plan, (control, *fds[1:]))
            if plan.process is None:
                confine.confine(plan)
        except (OSError, BoxrunError) as error:
            refuse(link, plan.id, error)
            os._exit(1)
        launcher = Direct(plan) if plan.process is None else Confined(plan, plan.process, null, pid_namespace)
        Prober(plan, launcher, null=null, listener=socket(fileno=fds[1]), pidfd=fds[2], link=link).run()
        status = 0
    finally:
        os._exit(status)


def refuse(link: socket, container: str, error: Exception) -> None:
    """Tell the supervisor that nobody gets into the container."""
    described = f"{error.filename}: {(error.strerror or '').lower()}" if isinstance(error, OSError) else str(error)
    with suppress(OSError):
        send_inline(link, encode(Unable(id=container, error=described)))


class Prober:
    """The loop, with at most one probe under way."""

    def __init__(self, plan: Plan, launcher: Launcher, *, null: int, listener: socket, pidfd: int, link: socket) -> None:
        self._plan = plan
        self._monitor = Monitor(plan.schedule, plan.health)
        self._launcher = launcher
        self._null = null
        self._attentive = plan.attentive
        self._resting = False
        self._untold = False
        self._links: dict[int, socket] = {}
        self._listener = listener
        self._pidfd = pidfd
        self._poll = poll()
        # Ages are taken from the monotonic clock, which nobody sets.
        self._began = monotonic_ns() - plan.age
        self._due = monotonic_ns() + self._interval()
        self._child = 0
        self._child_fd = self._output = -1
        self._kept = bytearray()
        self._start = self._age = self._deadline = 0
        self._reading = self._killed = self._discarded = False
        self._start_of_reading = 0
        listener.setblocking(False)
        self._poll.register(listener.fileno(), POLLIN)
        self._poll.register(pidfd, POLLIN)
        self._greet(link)

    def _interval(self) -> int:
        return self._monitor.interval(monotonic_ns() - self._began)

    def run(self) -> None:
        """Probe until the container has ended."""
        while True:
            for fd, _events in self._poll.poll(self._patience()):
                if fd == self._child_fd:
                    self._finish()
                elif fd == self._output:
                    if not drain(fd, self._kept, MAX_OUTPUT, self._null):
                        self._stop_reading()
                elif fd == self._pidfd:
                    return
                elif fd == self._listener.fileno():
                    self._accept()
                elif fd in self._links:
                    self._serve(fd)
            now = monotonic_ns()
            if self._child:
                self._look_after(now)
            elif not self._resting and now >= self._due:
                self._begin()

    def _patience(self) -> float | None:
        """How many ms there are until something has to be done."""
        if not self._child:
            due = None if self._resting else self._due
        elif not self._reading and not self._killed:
            due = min(self._start_of_reading, self._deadline)
        else:
            due = None if self._killed else self._deadline
        return None if due is None else max(0, due - monotonic_ns()) / 1_000_000

    # Probes.

    def _begin(self) -> None:
        self._start = time_ns()
        self._age = monotonic_ns() - self._began
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            child = self._launcher.launch(writer)
        except LaunchError as error:
            os.close(reader)
            self._conclude(-1, str(error).encode(errors="surrogateescape")[:MAX_OUTPUT])
            return
        finally:
            os.close(writer)
        # The time it took to set the probe up isn't the probe's.
        now = monotonic_ns()
        self._child, self._output, self._kept = child, reader, bytearray()
        self._reading = self._killed = self._discarded = False
        self._start_of_reading, self._deadline = now + PATIENCE_NS, now + self._plan.schedule.timeout
        self._child_fd = pidfd_open(child)
        self._poll.register(self._child_fd, POLLIN)

    def _look_after(self, now: int) -> None:
        """A probe that takes its time has its output read, and is killed when it takes too long."""
        if not self._reading and now >= self._start_of_reading:
            self._reading = True
            os.set_blocking(self._output, False)
            self._poll.register(self._output, POLLIN)
        if not self._killed and now >= self._deadline:
            self._kill()

    def _kill(self) -> None:
        """Kill the probe and what it has started, as long as that is still of its session's first group."""
        self._killed = True
        try:
            os.killpg(self._child, _KILL)
        except ProcessLookupError:
            return
        except OSError as error:
            if error.errno == EPERM:
                # Its program has made itself somebody else; the supervisor may kill that, too.
                self._tell(stuck=self._child)

    def _stop_reading(self) -> None:
        self._poll.unregister(self._output)
        os.close(self._output)
        self._output = -1

    def _finish(self) -> None:
        """The probe has ended."""
        status = os.waitpid(self._child, 0)[1]
        self._poll.unregister(self._child_fd)
        os.close(self._child_fd)
        if self._output >= 0:
            if self._reading:
                self._poll.unregister(self._output)
            else:
                os.set_blocking(self._output, False)
            # What it left behind, not what its offspring goes on to write.
            before = -1
            while len(self._kept) <= MAX_OUTPUT and len(self._kept) != before:
                before = len(self._kept)
                drain(self._output, self._kept, MAX_OUTPUT, self._null)
            os.close(self._output)
        self._child, self._child_fd, self._output = 0, -1, -1
        if self._discarded:
            return
        output = words.limited(self._kept)
        if self._killed:
            self._conclude(-1, words.exceeded(self._plan.schedule.timeout, output))
        else:
            code = os.waitstatus_to_exitcode(status)
            self._conclude(code if code >= 0 else 128 - code, output)

    def _conclude(self, exit_code: int, output: bytes) -> None:
        monitor = self._monitor
        streak = monitor.streak
        changed = monitor.take(ProbeResult(start=self._start, end=time_ns(), exit_code=exit_code, output=output), self._age)
        self._due = monotonic_ns() + self._interval()
        if changed or exit_code or streak or self._attentive or self._untold:
            self._tell()

    # Supervisors.

    def _report(self, sequence: int = 0, stuck: int = 0) -> Report:
        plan = self._plan
        return Report(id=plan.id, run=plan.run, prober=os.getpid(), health=self._monitor.health, sequence=sequence, stuck=stuck)

    def _tell(self, stuck: int = 0) -> None:
        message = encode(self._report(stuck=stuck))
        self._untold = False
        for link in list(self._links.values()):
            self._send(link, message)

    def _send(self, link: socket, message: bytes) -> None:
        try:
            send_inline(link, message)
        except BlockingIOError:
            self._untold = True
        except OSError:
            self._drop(link)

    def _greet(self, link: socket) -> None:
        if len(self._links) >= MAX_LINKS:
            link.close()
            return
        link.setblocking(False)
        self._links[link.fileno()] = link
        self._poll.register(link.fileno(), POLLIN)
        self._answer(link, self._report())

    def _answer(self, link: socket, message: Struct) -> None:
        self._send(link, encode(message))

    def _accept(self) -> None:
        with suppress(OSError):
            self._greet(socket(fileno=self._listener._accept()[0]))  # type: ignore[attr-defined]

    def _serve(self, fd: int) -> None:
        link = self._links[fd]
        try:
            message = receive_inline(link, MESSAGE_LIMIT)
            request = None if message is None else decode_request(message)
        except (BlockingIOError, ValidationError):
            # Nothing is there, or a supervisor of another version asks for something new.
            return
        except (OSError, ValueError, MsgspecError):
            request = None
        if request is None:
            self._drop(link)
            return
        self._handle(request)
        self._answer(link, self._report(request.sequence))

    def _handle(self, request: Request) -> None:
        if isinstance(request, Attend):
            self._attentive = request.attentive
        elif isinstance(request, Rest) and request.rest != self._resting:
            self._resting = request.rest
            if self._resting and self._child:
                self._discarded = True
                self._kill()
            elif not self._resting:
                self._due = monotonic_ns() + self._interval()

    def _drop(self, link: socket) -> None:
        fd = link.fileno()
        if self._links.pop(fd, None) is not None:
            self._poll.unregister(fd)
            link.close()
