"""The process that sends a container's log away: it reads the shim's frames and hands lines to the driver.

One for each container whose driver sends, forked from its shim's worker; where TLS is asked for, executed anew, since the
modules for that are too dear to be in every shim. It may block in its driver: the shim sees its channel filling, and holds the
container back or drops and counts, as the mode has it. It outlives workers that park, and ends with its channel.
"""

from __future__ import annotations

import os
import sys

# Without the signal module's enumerations, as in the zygote.
from _signal import ITIMER_REAL, SIGALRM, setitimer  # type: ignore[import-not-found]
from _signal import signal as set_handler
from _socket import AF_UNIX, MSG_DONTWAIT, SOCK_STREAM, socket, socketpair
from contextlib import suppress
from itertools import islice
from select import POLLRDHUP, poll
from struct import Struct
from time import monotonic
from typing import NoReturn

from msgspec.msgpack import Decoder, Encoder

from boxrun.container.spec import Log
from boxrun.errors import LogDriverError
from boxrun.linux.files import close_from
from boxrun.shim.logs.entries import Entry, Unframer
from boxrun.shim.logs.fluentd import Fluentd
from boxrun.shim.logs.gelf import Gelf
from boxrun.shim.logs.journald import Journald
from boxrun.shim.logs.outlet import Outlet, Pause
from boxrun.shim.logs.syslog import Syslog

READ_SIZE = 1 << 18

BATCH = 1024
"""How many entries are made and delivered at a time: they are far larger than the frames they come in."""

FINAL_SECONDS = 2.0
"""How long a receiver that takes nothing is tried after the output's end."""

REPORT = Struct(">QQ")
"""What the shim is told when its channel is empty, and now and then: messages delivered and given up since the last report."""

OK = b"ok\n"

_CHECK_SECONDS = 0.5
_REPORT_SECONDS = 0.5

# Without site and environment, like the zygote that this descends from; the paths are the zygote's own.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv[4:]; from boxrun.shim.logs.sender import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'eager')"
)


def start(log: Log, *, eager: bool) -> socket:
    """Start a sender; our end of its channel.

    Args:
        log: the driver and its options.
        eager: get in touch with the receiver first, and answer with ``OK`` or a line that says what went wrong.

    Raises:
        OSError: no process can be had.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid:
        theirs.close()
        return ours
    status = 1
    try:
        channel = theirs.fileno()
        # The container's pipes and its clients' sockets among them, whose end would otherwise wait for this process.
        os.closerange(3, channel)
        close_from(channel + 1)
        if uses_tls(log):
            _execute(channel, log, eager)
        serve(theirs, log, eager=eager)
        status = 0
    except BaseException:  # noqa: BLE001 - nothing of the worker's may run in its child
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def uses_tls(log: Log) -> bool:
    """Whether the driver's address asks for TLS."""
    return log.options.get(f"{log.driver}-address", "").startswith(("tcp+tls://", "tls://"))


def _execute(channel: int, log: Log, eager: bool) -> NoReturn:
    """Become a fresh interpreter with all its modules within reach."""
    order = os.memfd_create("boxrun-log", 0)
    os.write(order, Encoder().encode(log))
    os.set_inheritable(channel, True)
    arguments = [str(channel), str(order), "eager" if eager else "late", *sys.argv[2:]]
    os.execv("/proc/self/exe", [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOTSTRAP, *arguments])


def main(channel: int, order: int, eager: bool) -> None:
    """Be an executed sender, with the log's description in the file ``order``."""
    log = Decoder(Log).decode(os.pread(order, 1 << 20, 0))
    os.close(order)
    serve(socket(fileno=channel), log, eager=eager)


def outlet(log: Log, pause: Pause) -> Outlet:
    """The driver that ``log`` names."""
    match log.driver:
        case "journald":
            return Journald(log, pause)
        case "syslog":
            return Syslog(log, pause)
        case "fluentd":
            return Fluentd(log, pause)
        case "gelf":
            return Gelf(log, pause)
    raise LogDriverError(f"no log driver named {log.driver!r} sends")


def serve(channel: socket, log: Log, *, eager: bool) -> None:
    """Send what comes through ``channel`` until its end."""
    sender = Sender(channel)
    driver = outlet(log, sender.pause)
    if eager:
        try:
            driver.open()
        except LogDriverError as error:
            channel.sendall(str(error).replace("\n", " ").encode() + b"\n")
            return
        channel.sendall(OK)
    sender.run(driver)


class Sender:
    """One container's sender."""

    def __init__(self, channel: socket) -> None:
        self._channel = channel
        self._ends_at: float | None = None
        set_handler(SIGALRM, self._check)
        self._poll = poll()
        # One of its own for the signal's handler, which comes in the middle of the other's waiting.
        self._glance = poll()
        for waiting in (self._poll, self._glance):
            waiting.register(channel.fileno(), POLLRDHUP)

    def run(self, driver: Outlet) -> None:
        """Read frames, deliver their entries, and report."""
        unframer, delivered, dropped, reported = Unframer(), 0, 0, monotonic()
        while True:
            try:
                data = self._channel.recv(READ_SIZE, MSG_DONTWAIT)
            except BlockingIOError:
                if delivered or dropped:
                    self._report(delivered, dropped)
                    delivered = dropped = 0
                data = self._channel.recv(READ_SIZE)
            except OSError:
                break
            if not data:
                break
            found = unframer.feed(data)
            while entries := list(islice(found, BATCH)):
                lost = self._deliver(driver, entries)
                delivered, dropped = delivered + len(entries) - lost, dropped + lost
                if lost < len(entries):
                    self._ends_at = None
                if monotonic() - reported > _REPORT_SECONDS:
                    self._report(delivered, dropped)
                    delivered, dropped, reported = 0, 0, monotonic()
        driver.close()
        self._report(delivered, dropped)

    def _deliver(self, driver: Outlet, entries: list[Entry]) -> int:
        # A receiver that takes nothing must not keep this process for ever.
        setitimer(ITIMER_REAL, _CHECK_SECONDS, _CHECK_SECONDS)
        try:
            return driver.deliver(entries)
        except OSError:
            # What the drivers expect of a network they handle themselves.
            sys.excepthook(*sys.exc_info())
            return len(entries)
        finally:
            setitimer(ITIMER_REAL, 0)

    def _check(self, _signum: int, _frame: object) -> None:
        """End in the middle of a delivery, where there is no time left for it."""
        if self._ends_at is None:
            if self._glance.poll(0):
                self._ends_at = monotonic() + FINAL_SECONDS
        elif monotonic() >= self._ends_at:
            os._exit(1)

    def _report(self, delivered: int, dropped: int) -> None:
        with suppress(OSError):
            self._channel.send(REPORT.pack(delivered, dropped))

    def pause(self, seconds: float) -> bool:
        """Wait ``seconds``; False where the output has ended and there is no time left."""
        until = monotonic() + seconds
        if self._ends_at is None:
            if not self._poll.poll(seconds * 1000):
                return True
            self._ends_at = monotonic() + FINAL_SECONDS
        left = min(until, self._ends_at) - monotonic()
        if left > 0:
            # Not the channel, whose end would wake us at once.
            poll().poll(left * 1000)
        return monotonic() < self._ends_at
