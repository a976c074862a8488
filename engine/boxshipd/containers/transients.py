"""Containers without a record: they run one command for a piece of work under way, and end with it.

Neither listed nor found by clients, they have no events, no log, and nothing of them outlives the daemon: what its death leaves
behind is killed and removed by the next one.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from boxrun.container.spec import Spec
from boxrun.linux.files import TMPFS_MAGIC, filesystem_magic
from boxrun.supervisor.contract import Attachment, ContainerStatus, RuntimeEvent, StartReply

from boxshipd.containers import host_files
from boxshipd.containers.model import Container
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import Find, build_spec
from boxshipd.errors import DaemonError, InternalError
from boxshipd.images.unpack.removal import remove_tree
from boxshipd.runtime.errors import LinkLost, NetworkFailed
from boxshipd.runtime.link import RuntimeLink

log = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"
"""Where it is in memory, if that isn't so of the exec root: a record that is made durable there costs nothing."""

_SETTLE_SECONDS = 20.0
"""How long another supervisor may take to say what became of a start."""

_KILL_ATTEMPTS = 12
_KILL_SECONDS = 5.0
"""How long each attempt to kill waits for the end: a minute in all, in which a supervisor that has died is replaced."""


@dataclass(frozen=True, slots=True)
class Places:
    """A transient container's directories, both empty and its own.

    Attributes:
        disk: on the data root's file system: ``upper`` and ``work`` of its root are in it.
        run: where the daemon keeps what doesn't outlive the machine: files of its /etc, sockets, secrets, and the runtime's
            record of its end.
        in_memory: whether that is in memory, so that nothing of it ever gets to a disk but by swapping.
    """

    disk: str
    run: str
    in_memory: bool

    @property
    def upper(self) -> str:
        """What it writes."""
        return f"{self.disk}/upper"

    @property
    def work(self) -> str:
        """overlayfs's own."""
        return f"{self.disk}/work"


class Transients:
    """Runs them. To be used on the event loop; ``open`` it before the runtime is connected, and ``close`` it before that ends.

    Args:
        runtime: who runs them.
        networking: puts them on networks.
        find: finds a container whose network is joined.
        settings: gives the daemon's present settings.
    """

    def __init__(
        self, *, runtime: RuntimeLink, networking: ContainerNetworking, find: Find, settings: Callable[[], Settings]
    ) -> None:
        self._runtime = runtime
        self._networking = networking
        self._find = find
        self._settings = settings
        self._disk = f"{settings().data_root}/transients"
        self._run, self._in_memory = _run_directory(settings().exec_root)
        self._runs: dict[str, asyncio.Future[ContainerStatus]] = {}
        self._starts: dict[str, asyncio.Future[bool]] = {}
        self._started: set[str] = set()
        self._seen: set[str] = set()
        self._left: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="transients")
        runtime.observe(self._heard)

    def open(self) -> None:
        """Make the directories, and find what the daemon's death has left; that goes as soon as nothing runs in it."""
        for path in (self._disk, self._run):
            os.makedirs(path, mode=0o700, exist_ok=True)
            self._left.update(os.listdir(path))

    async def close(self) -> None:
        """Wait until everything that has ended is let go of."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.get_running_loop().run_in_executor(self._pool, int)
        self._pool.shutdown()
        with suppress(OSError):
            os.rmdir(self._run)

    def has(self, container_id: str) -> bool:
        """Whether a container is one of these, and under way."""
        return container_id in self._runs

    @property
    def directories(self) -> tuple[str, str]:
        """Where the containers' directories are: those on the disk, and the others."""
        return self._disk, self._run

    @property
    def settings(self) -> Settings:
        """The daemon's present settings."""
        return self._settings()

    @asynccontextmanager
    async def places(self, container_id: str) -> AsyncIterator[Places]:
        """The directories of a container to be, inside the block.

        Raises:
            InternalError: they can't be made.
        """
        found = self._places(container_id)
        try:
            try:
                os.mkdir(found.disk, 0o700)
                os.mkdir(found.upper, 0o755)
                os.chmod(found.upper, 0o755)
                os.mkdir(found.work, 0o700)
                os.mkdir(found.run, 0o700)
                os.mkdir(f"{found.run}/runtime", 0o700)
            except OSError as error:
                raise InternalError(f"make the directories of a container: {error.strerror or error}") from error
            yield found
        finally:
            self._pool.submit(self._remove, container_id)

    def _places(self, container_id: str) -> Places:
        return Places(f"{self._disk}/{container_id}", f"{self._run}/{container_id}", self._in_memory)

    async def run(self, container: Container, change: Callable[[Spec], Awaitable[Spec]], output: int) -> ContainerStatus:
        """Run a container to its end. Cancelled, it is killed, and waited for.

        Args:
            container: what to run; its directory is the ``memory`` one of its places.
            change: makes of the spec that follows from its configuration the one that is run.
            output: a stream socket that gets what it prints, in Docker's frames; it stays the caller's to close.

        Raises:
            StartFailed: the command, or what it was to have, can't be.
            DaemonError: as networks and the runtime have it.
        """
        loop = asyncio.get_running_loop()
        ended = self._runs[container.id] = loop.create_future()
        self._starts[container.id] = loop.create_future()
        try:
            self._write_files(container)
            sandbox = await self._networking.plug(container)
            spec = await change(build_spec(container, self._settings(), self._find))
            starting = asyncio.ensure_future(self._runtime.start(spec, [Attachment(framing="multiplexed")], [output], sandbox))
            try:
                await self._answered(container.id, starting)
            except NetworkFailed as error:
                raise self._networking.refusal(container, error) from error
            except LinkLost:
                if not await self._settled(container.id):
                    raise
            return await asyncio.shield(ended)
        finally:
            await _to_its_end(self._finish(container, ended))

    def _write_files(self, container: Container) -> None:
        config = container.config
        try:
            host_files.write_files(
                container.directory,
                hostname=config.config.hostname,
                host=config.host_config,
                settings=self._settings(),
            )
        except OSError as error:
            raise InternalError(f"write the files of a container's /etc: {error.strerror or error}") from error

    async def _answered(self, container_id: str, starting: asyncio.Future[StartReply]) -> None:
        """Wait for a start's answer even if nobody wants it any more: the start itself goes on, and is to be undone."""
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _to_its_end(asyncio.wait([starting]))
            raise
        finally:
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                self._started.add(container_id)

    async def _settled(self, container_id: str) -> bool:
        """Whether a start whose answer got lost with its supervisor came to something, as the next one finds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                if await self._starts[container_id]:
                    self._started.add(container_id)
                    return True
        return False

    async def _finish(self, container: Container, ended: asyncio.Future[ContainerStatus]) -> None:
        """Have a container be gone, whatever has become of its run."""
        try:
            if not ended.done():
                await self._kill(container.id, ended)
        finally:
            self._started.discard(container.id)
            del self._runs[container.id]
            self._starts.pop(container.id).cancel()
            ended.cancel()
            await self._networking.unplugged(container)
            # Whether it was ever started is no matter: of a start whose answer got lost nobody knows.
            self._spawn(self._release(container.id))

    async def _kill(self, container_id: str, ended: asyncio.Future[ContainerStatus]) -> None:
        """Kill a container, if it runs, and wait until it has ended; whom nothing ends is left to the next listing."""
        for _ in range(_KILL_ATTEMPTS):
            try:
                if not await self._runtime.signal(container_id, signal.SIGKILL) and container_id not in self._started:
                    return
            except DaemonError as error:
                log.info("kill container %s: %s", container_id, error)
                if self._runtime.closed:
                    # The next daemon does it.
                    return
            if (await asyncio.wait([ended], timeout=_KILL_SECONDS))[0]:
                return
        log.warning("container %s doesn't end", container_id)

    async def _release(self, container_id: str) -> None:
        try:
            await self._runtime.release(container_id)
        except DaemonError as error:
            # The next listing has it, and it is nobody's then.
            log.debug("release container %s: %s", container_id, error)

    def _heard(self, event: RuntimeEvent) -> None:
        """What the runtime tells: ends, and with each connection everything there is."""
        status = event.status
        if event.kind == "listed":
            self._listed()
        elif status is not None:
            if event.kind == "status":
                self._seen.add(status.id)
            if status.phase != "starting":
                # One that was only on its way to its shim has never come to be, and is told of as lost.
                self._settle(status.id, came_to_be=bool(status.pid))
            if status.phase == "exited":
                self._ended(status)

    def _settle(self, container_id: str, *, came_to_be: bool) -> None:
        start = self._starts.get(container_id)
        if start is not None and not start.done():
            start.set_result(came_to_be)

    def _ended(self, status: ContainerStatus) -> None:
        ended = self._runs.get(status.id)
        if ended is not None and not ended.done():
            ended.set_result(status)
        self._seen.discard(status.id)
        if status.id in self._left:
            self._left.discard(status.id)
            self._pool.submit(self._remove, status.id)

    def _listed(self) -> None:
        """A new supervisor, or the same one again: what ran and isn't there any more has ended unseen."""
        seen, self._seen = self._seen, set()
        for container_id in self._starts.keys() - seen:
            self._settle(container_id, came_to_be=False)
        for container_id in self._started - seen:
            ended = self._runs[container_id]
            if not ended.done():
                ended.set_result(ContainerStatus(id=container_id, phase="exited", exit_code=255, lost=True))
        for container_id in self._left - seen:
            self._left.discard(container_id)
            self._pool.submit(self._remove, container_id)

    def _remove(self, container_id: str) -> None:
        places = self._places(container_id)
        for path in (places.run, places.disk):
            try:
                remove_tree(path)
            except OSError as error:
                log.warning("remove %s: %s", path, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _run_directory(exec_root: str) -> tuple[str, bool]:
    """Where what doesn't outlive the machine goes, and whether that is in memory."""
    own = f"{exec_root}/transients"
    os.makedirs(exec_root, mode=0o711, exist_ok=True)
    if _in_memory(exec_root):
        return own, True
    if _in_memory(_SHARED_MEMORY):
        name = hashlib.blake2b(os.path.realpath(exec_root).encode(), digest_size=8).hexdigest()
        return f"{_SHARED_MEMORY}/boxship-{name}", True
    return own, False


def _in_memory(path: str) -> bool:
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return filesystem_magic(fd) == TMPFS_MAGIC
    finally:
        os.close(fd)


async def _to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Wait for work however often that is cancelled: what it undoes must not stay."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
