"""The connection to the supervisor, kept up for as long as the daemon runs.

The supervisor outlives the daemon. Where none answers one is started; where the connection is lost it is made again, with a
new supervisor if need be, and the listing that begins every watch brings both sides together again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from boxrun.bus import BusError, Channel, Code
from boxrun.bus.client import UnaryMethod
from boxrun.container.spec import Spec
from boxrun.network.contract import PlugRequest
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
    StartReply,
    StartRequest,
    WatchRequest,
)

from boxshipd.errors import Conflict, Unavailable
from boxshipd.runtime.connector import CONNECT_TIMEOUT, Connector
from boxshipd.runtime.errors import translated

log = logging.getLogger(__name__)

CALL_TIMEOUT = 30.0
"""Seconds that a call may take where nothing else is said."""
_START_TIMEOUT = 120.0
_ATTEMPTS = 3
_RETRY = 0.02
_LONGEST_RETRY = 1.0

OnListing = Callable[[list[ContainerStatus]], None]
OnEvent = Callable[[RuntimeEvent], None]

Request = TypeVar("Request")
Reply = TypeVar("Reply")


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
        self._observers: list[OnEvent] = []

    def handlers(self, listing: OnListing, event: OnEvent) -> None:
        """Say who hears of listings, one after each connection, and of the events after them; what has come is told now."""
        self._on_listing = listing
        self._on_event = event
        untold, self._untold = self._untold, []
        for told in untold:
            self._tell(told)

    def observe(self, observer: OnEvent) -> None:
        """Tell ``observer`` everything that is heard, each connection's listing and its end (``listed``) included."""
        self._observers.append(observer)

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

    @property
    def closed(self) -> bool:
        """Whether there is no supervisor, nor will be one."""
        return self._keeper is None or self._keeper.done()

    async def call(
        self,
        method: UnaryMethod[Request, Reply],
        request: Request,
        what: str,
        *,
        timeout: float = CALL_TIMEOUT,
        descriptors: Sequence[int] = (),
        repeat: bool = False,
    ) -> Reply:
        """Call one of the runtime's unary methods.

        Args:
            method: of ``boxrun.supervisor.contract.Runtime``.
            request: its request.
            what: what is being done to what, for the error's message ("resize container 4f...").
            timeout: seconds.
            descriptors: travel along; they stay the caller's to close.
            repeat: ask the next supervisor where one goes away meanwhile; for what may be done twice.

        Raises:
            Conflict: the runtime has no such container, or not in the state it takes.
            LinkLost: the outcome is unknown.
            Unavailable: there is no supervisor.
            InternalError: it failed.
        """
        for attempt in range(_ATTEMPTS if repeat else 1, 0, -1):
            channel = await self._ready()
            try:
                return await channel.unary(method, request, timeout=timeout, fds=descriptors)
            except BusError as error:
                if attempt == 1 or error.code is not Code.UNAVAILABLE:
                    raise translated(error, what) from error
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LONGEST_RETRY):
                        await channel.wait_closed()
                if self._channel is channel:
                    # The watch is about to find it lost as well, and makes another one.
                    self._listed.clear()
        raise AssertionError("the last attempt returns or raises")

    async def call_for_descriptors(
        self,
        method: UnaryMethod[Request, Reply],
        request: Request,
        what: str,
        *,
        timeout: float = CALL_TIMEOUT,
        descriptors: Sequence[int] = (),
    ) -> tuple[Reply, list[int]]:
        """As ``call``, for a method whose reply brings descriptors: the caller closes them."""
        channel = await self._ready()
        try:
            return await channel.unary_with_fds(method, request, timeout=timeout, fds=descriptors)
        except BusError as error:
            raise translated(error, what) from error

    async def start(
        self,
        spec: Spec,
        attachments: Sequence[Attachment],
        descriptors: Sequence[int],
        sandbox: PlugRequest | None = None,
    ) -> StartReply:
        """Start a container, in a sandbox that is plugged on the way where there is one to be.

        Raises:
            NetworkFailed: it couldn't be plugged.
            StartFailed: the container's own fault.
            LinkLost: the outcome is unknown.
            Unavailable: there is no supervisor.
        """
        request = StartRequest(spec=spec, attachments=tuple(attachments), sandbox=sandbox)
        what = f"start container {spec.id}"
        return await self.call(Runtime.start, request, what, timeout=_START_TIMEOUT, descriptors=descriptors)

    async def signal(self, container_id: str, number: int) -> bool:
        """Send a signal to a container's first process; False where it doesn't run.

        Raises:
            Unavailable, InternalError
        """
        request = SignalRequest(id=container_id, signal=number)
        try:
            await self.call(Runtime.signal, request, f"send signal {number} to container {container_id}")
        except Conflict:
            return False
        return True

    async def resize(self, container_id: str, height: int, width: int) -> None:
        """Set a terminal's size in characters.

        Raises:
            Conflict: it doesn't run, or has no terminal.
            Unavailable, InternalError
        """
        request = ResizeRequest(id=container_id, height=height, width=width)
        await self.call(Runtime.resize, request, f"resize container {container_id}")

    async def attach(self, container_id: str, attachment: Attachment, descriptor: int) -> None:
        """Hand a client's socket to a running container; ``descriptor`` stays the caller's to close.

        Raises:
            Conflict: it doesn't run.
            Unavailable, InternalError
        """
        request = AttachRequest(id=container_id, attachment=attachment)
        await self.call(Runtime.attach, request, f"attach to container {container_id}", descriptors=[descriptor])

    async def release(self, container_id: str) -> None:
        """Let the runtime forget an exited container.

        Raises:
            Unavailable, InternalError
        """
        await self.call(Runtime.release, ContainerRef(id=container_id), f"release container {container_id}")

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
                Runtime.shutdown, ShutdownRequest(kill=kill, cgroup_parents=tuple(cgroup_parents)), timeout=CALL_TIMEOUT
            )
        except BusError as error:
            if error.code is not Code.UNAVAILABLE:
                raise translated(error, "shut the supervisor down") from error
        pid = channel.transport.peer.pid
        # Our watch is the one call the supervisor would wait for.
        await self.close()
        if pid != os.getpid():
            await _gone(pid)

    async def _ready(self) -> Channel:
        """The channel, as soon as its listing has been taken in."""
        if not self._listed.is_set():
            if self.closed:
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
        self._features = await channel.unary(Runtime.features, Empty(), timeout=CALL_TIMEOUT)
        listing: list[ContainerStatus] | None = []
        async with channel.server_stream(Runtime.watch, WatchRequest()) as events:
            async for event in events:
                self._show(event)
                if listing is None:
                    self._tell(event)
                elif event.kind == "listed":
                    statuses, listing = listing, None
                    self._channel = channel
                    self._tell(statuses)
                    self._listed.set()
                elif event.status is not None:
                    listing.append(event.status)

    def _show(self, event: RuntimeEvent) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                log.exception("handling what the supervisor told failed")

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
