"""The daemon's end of the bus: a supervisor is there, is connected to, and what it tells arrives.

The supervisor outlives the daemon. Where none answers one is started; where the connection is lost it is made again, with a
new supervisor if need be, and the listing that begins every watch brings both sides together again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from boxrun.bus import BusError, Channel, Code, connect_unix
from boxrun.container.spec import Spec
from boxrun.supervisor.contract import (
    Attachment,
    AttachRequest,
    ContainerRef,
    ContainerStatus,
    Empty,
    Features,
    ResizeRequest,
    Runtime,
    RuntimeEvent,
    ShutdownRequest,
    SignalRequest,
    StartFailure,
    StartReply,
    StartRequest,
    WatchRequest,
)

from boxshipd.errors import Conflict, DaemonError, InternalError, InvalidParameter, Unavailable

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 20.0
"""Seconds a supervisor gets to come up, and a request waits for one."""
_CALL_TIMEOUT = 30.0
_START_TIMEOUT = 120.0
_RETRY = 0.02
_LONGEST_RETRY = 1.0

OnListing = Callable[[list[ContainerStatus]], None]
OnEvent = Callable[[RuntimeEvent], None]


class StartFailed(DaemonError):  # noqa: N818 - named as Docker's own errors are
    """The runtime could not start a container; ``failure`` says at which step, and which exit code Docker gives it."""

    def __init__(self, failure: StartFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class CommandFailed(StartFailed, InvalidParameter):
    """The container's program wasn't found (127) or can't be run (126): the configuration's fault."""


class SetupFailed(StartFailed, InternalError):  # noqa: N818
    """Something else failed on the way to the container's program."""


class LinkLost(Unavailable):
    """The supervisor went away during a call, so that its outcome is unknown until the next listing."""


class Connector(Protocol):
    """How a supervisor is reached."""

    async def connect(self) -> Channel:
        """A new connection; raises Unavailable where there is no supervisor and none can be started."""


class SupervisorConnector:
    """Connects to the supervisor of a run directory, starting one where none answers.

    Args:
        run_dir: absolute path of the supervisor's directory.
        log_level: what a new supervisor is started with.
    """

    def __init__(self, run_dir: str, log_level: str = "info") -> None:
        self._run_dir = run_dir
        self._log_level = log_level
        self._socket = f"{run_dir}/boxrun.sock"

    async def connect(self) -> Channel:
        """See Connector."""
        channel = await self._attempt()
        if channel is not None:
            return channel
        pid = self._spawn()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONNECT_TIMEOUT
        while loop.time() < deadline:
            await asyncio.sleep(_RETRY)
            channel = await self._attempt()
            if channel is not None:
                return channel
            if not _alive(pid):
                raise Unavailable(f"the supervisor ended while it was being started: see {self._run_dir}/boxrun.log")
        raise Unavailable(f"the supervisor did not answer within {CONNECT_TIMEOUT:g} s: see {self._run_dir}/boxrun.log")

    async def _attempt(self) -> Channel | None:
        try:
            channel = await connect_unix(self._socket, timeout=5.0)
        except BusError as error:
            if error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}:
                return None
            raise Unavailable(f"connect to the supervisor at {self._socket}: {error.message}") from error
        except OSError:
            return None
        return channel

    def _spawn(self) -> int:
        """Start a supervisor in a session of its own; it writes to a log of its own, for it lives longer than our stderr."""
        os.makedirs(self._run_dir, mode=0o711, exist_ok=True)
        output = os.open(f"{self._run_dir}/boxrun.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            command = [sys.executable, "-m", "boxrun.main", "supervisor", "--run-dir", self._run_dir]
            pid = os.posix_spawn(
                sys.executable,
                [*command, "--log-level", self._log_level],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, output, 1),
                    (os.POSIX_SPAWN_DUP2, output, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise Unavailable(f"start a supervisor for {self._run_dir}: {error}") from error
        finally:
            os.close(output)
        _reap_when_ended(pid)
        return pid


def _alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}/exe")


def _reap_when_ended(pid: int) -> None:
    """Reap a child when it ends, if it does so before us."""
    loop = asyncio.get_running_loop()
    descriptor = os.pidfd_open(pid)

    def reap() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(descriptor, reap)


class RuntimeLink:
    """The connection to the supervisor, kept up for as long as the daemon runs.

    Args:
        connector: how the supervisor is reached.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._channel: Channel | None = None
        self._listed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._features: Features | None = None
        self._failure = ""
        self._on_listing: OnListing | None = None
        self._on_event: OnEvent | None = None
        self._untold: list[list[ContainerStatus] | RuntimeEvent] = []

    def handlers(self, listing: OnListing, event: OnEvent) -> None:
        """Say who hears of listings, one after each connection, and of the events after them; what has come is told now."""
        self._on_listing = listing
        self._on_event = event
        untold, self._untold = self._untold, []
        for told in untold:
            self._tell(told)

    async def open(self) -> None:
        """Connect, starting a supervisor if need be, and take in the first listing. Nothing happens where it is open.

        Raises:
            Unavailable: no supervisor could be reached or started.
        """
        if self._keeper is not None:
            return
        try:
            channel = await self._connector.connect()
        except BaseException as error:
            self._failure = str(error)
            raise
        self._keeper = asyncio.create_task(self._keep(channel), name="runtime-link")
        listed = asyncio.create_task(self._listed.wait())
        try:
            await asyncio.wait([listed, self._keeper], timeout=CONNECT_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listed.cancel()
        if not self._listed.is_set():
            await self.close()
            raise Unavailable(f"the supervisor told nothing of its containers: {self._failure or 'no answer'}")

    async def close(self) -> None:
        """Disconnect; the supervisor and its containers go on."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    @property
    def features(self) -> Features | None:
        """What the machine can do, as the supervisor found it; None before the first connection."""
        return self._features

    @property
    def connected(self) -> bool:
        """Whether a supervisor is connected now."""
        return self._listed.is_set()

    async def start(self, spec: Spec, attachments: Sequence[Attachment], descriptors: Sequence[int]) -> StartReply:
        """Start a container.

        Raises:
            StartFailed: the container's own fault.
            LinkLost: the outcome is unknown.
            Unavailable: there is no supervisor.
        """
        channel = await self._ready()
        request = StartRequest(spec=spec, attachments=tuple(attachments))
        try:
            return await channel.unary(Runtime.start, request, timeout=_START_TIMEOUT, fds=descriptors)
        except BusError as error:
            failure = error.detail(StartFailure)
            if failure is not None:
                kind = CommandFailed if failure.exit_code in {126, 127} else SetupFailed
                raise kind(failure) from error
            raise _translated(error, f"start container {spec.id}") from error

    async def signal(self, container_id: str, number: int) -> bool:
        """Send a signal to a container's first process; False where it doesn't run.

        Raises:
            Unavailable, InternalError
        """
        channel = await self._ready()
        try:
            await channel.unary(Runtime.signal, SignalRequest(id=container_id, signal=number), timeout=_CALL_TIMEOUT)
        except BusError as error:
            if error.code in {Code.NOT_FOUND, Code.FAILED_PRECONDITION}:
                return False
            raise _translated(error, f"send signal {number} to container {container_id}") from error
        return True

    async def resize(self, container_id: str, height: int, width: int) -> None:
        """Set a terminal's size in characters.

        Raises:
            Conflict: it doesn't run, or has no terminal.
            Unavailable, InternalError
        """
        channel = await self._ready()
        try:
            await channel.unary(
                Runtime.resize, ResizeRequest(id=container_id, height=height, width=width), timeout=_CALL_TIMEOUT
            )
        except BusError as error:
            raise _translated(error, f"resize container {container_id}") from error

    async def attach(self, container_id: str, attachment: Attachment, descriptor: int) -> None:
        """Hand a client's socket to a running container; ``descriptor`` stays the caller's to close.

        Raises:
            Conflict: it doesn't run.
            Unavailable, InternalError
        """
        channel = await self._ready()
        try:
            await channel.unary(
                Runtime.attach, AttachRequest(id=container_id, attachment=attachment), timeout=_CALL_TIMEOUT, fds=[descriptor]
            )
        except BusError as error:
            raise _translated(error, f"attach to container {container_id}") from error

    async def release(self, container_id: str) -> None:
        """Let the runtime forget an exited container.

        Raises:
            Unavailable, InternalError
        """
        channel = await self._ready()
        try:
            await channel.unary(Runtime.release, ContainerRef(id=container_id), timeout=_CALL_TIMEOUT)
        except BusError as error:
            raise _translated(error, f"release container {container_id}") from error

    async def shutdown(self, *, kill: bool, cgroup_parents: Sequence[str] = ()) -> None:
        """End the supervisor and its zygote, and don't start another.

        Args:
            kill: kill the containers that run.
            cgroup_parents: parents of containers' cgroups to be removed, whoever made them.

        Raises:
            Conflict: containers run, and not ``kill``.
        """
        channel = await self._ready()
        try:
            await channel.unary(
                Runtime.shutdown, ShutdownRequest(kill=kill, cgroup_parents=tuple(cgroup_parents)), timeout=_CALL_TIMEOUT
            )
        except BusError as error:
            if error.code is not Code.UNAVAILABLE:
                raise _translated(error, "shut the supervisor down") from error
        pid = channel.transport.peer.pid
        # Our watch is the one call the supervisor would wait for.
        await self.close()
        if pid != os.getpid():
            await _gone(pid)

    async def _ready(self) -> Channel:
        """The channel, as soon as its listing has been taken in."""
        if not self._listed.is_set():
            if self._keeper is None or self._keeper.done():
                raise Unavailable("the supervisor is not connected")
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._listed.wait()
            except TimeoutError:
                raise Unavailable(f"the supervisor can't be reached: {self._failure or 'no answer'}") from None
        if self._channel is None:
            raise Unavailable("the supervisor is not connected")
        return self._channel

    async def _keep(self, channel: Channel) -> None:
        """Watch, and connect again whenever the connection is lost."""
        while True:
            try:
                await self._watch(channel)
                self._failure = "the watch ended"
            except BusError as error:
                self._failure = error.message
            finally:
                self._listed.clear()
                self._channel = None
                channel.close()
            log.warning("lost the supervisor: %s", self._failure)
            channel = await self._reconnect()

    async def _reconnect(self) -> Channel:
        delay = _RETRY
        while True:
            try:
                return await self._connector.connect()
            except (Unavailable, OSError) as error:
                self._failure = str(error)
                log.error("connect to the supervisor again: %s", error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_RETRY)

    async def _watch(self, channel: Channel) -> None:
        """Take in the listing, then events, for as long as the connection lasts."""
        self._features = await channel.unary(Runtime.features, Empty(), timeout=_CALL_TIMEOUT)
        listing: list[ContainerStatus] | None = []
        async with channel.server_stream(Runtime.watch, WatchRequest()) as events:
            async for event in events:
                if listing is None:
                    self._tell(event)
                elif event.kind == "listed":
                    statuses, listing = listing, None
                    self._channel = channel
                    self._tell(statuses)
                    self._listed.set()
                elif event.status is not None:
                    listing.append(event.status)

    def _tell(self, told: list[ContainerStatus] | RuntimeEvent) -> None:
        """Pass on what the supervisor told. One container's trouble must not end the watch over all."""
        if self._on_listing is None or self._on_event is None:
            self._untold.append(told)
            return
        try:
            if isinstance(told, list):
                self._on_listing(told)
            else:
                self._on_event(told)
        except Exception:
            log.exception("handling what the supervisor told failed")


async def _gone(pid: int) -> None:
    """Wait until a process has ended, for as long as it may reasonably take."""
    loop = asyncio.get_running_loop()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await ended.wait()
    except TimeoutError:
        log.error("the supervisor, process %d, was told to end and is still there after %g s", pid, CONNECT_TIMEOUT)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _translated(error: BusError, what: str) -> Exception:
    """A bus error as one of the daemon's."""
    text = f"{what}: {error.message}"
    if error.code in {Code.UNAVAILABLE, Code.CANCELLED, Code.DEADLINE_EXCEEDED}:
        return LinkLost(text)
    if error.code in {Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS}:
        return Conflict(text)
    return InternalError(text)
