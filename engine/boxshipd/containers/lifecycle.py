"""Start, stop, restart and kill.

Nothing is locked while a container is waited for: a job gives its place back meanwhile, and memory is read by whoever asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal as signals
from collections.abc import Iterable

from boxrun.container.spec import Spec
from boxrun.network.contract import PlugRequest
from boxrun.supervisor.contract import ContainerStatus, StartReply
from msgspec.structs import replace

from boxshipd.containers.exits import Exits
from boxshipd.containers.model import Container
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.pausing import Pausing
from boxshipd.containers.pending import Pending
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.containers.signals import parse_signal
from boxshipd.containers.spec.builder import build_spec
from boxshipd.containers.spec.mount_options import make_host_directories
from boxshipd.containers.volumes.lifetime import check_exclusive, publish_mounted
from boxshipd.errors import Conflict, DaemonError, InternalError, NotFound
from boxshipd.events import Events
from boxshipd.files.uses import Uses
from boxshipd.runtime.errors import LinkLost, NetworkFailed, StartFailed
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler

log = logging.getLogger(__name__)

STOP_TIMEOUT = 10
"""Seconds between the stop signal and SIGKILL, where neither the container nor the request says otherwise."""
REPLAY_TIMEOUT = 5.0
"""Seconds a start waits for clients that haven't read their head, or are still being sent what was written before."""

KILL_TIMEOUT = 10.0
"""Seconds until a container that was sent SIGKILL is given up."""


class Lifecycle:
    """Moves containers between their states."""

    def __init__(
        self,
        *,
        registry: Registry,
        exits: Exits,
        events: Events,
        runtime: RuntimeLink,
        scheduler: Scheduler,
        settings: Settings,
        pausing: Pausing,
        uses: Uses,
        networking: ContainerNetworking,
    ) -> None:
        self._registry = registry
        self._exits = exits
        self._events = events
        self._runtime = runtime
        self._scheduler = scheduler
        self._pausing = pausing
        self._uses = uses
        self._networking = networking
        self.settings = settings
        self.starting: dict[str, asyncio.Future[ContainerStatus | None]] = {}
        """Starts under way; a listing settles those whose outcome got lost with the supervisor's connection."""

    async def start(self, container: Container) -> bool:
        """Start a container for a client; False if it runs already.

        Raises:
            Conflict: it is being removed, or what it joins doesn't run.
            DaemonError: as building its spec and the runtime have it.
        """
        if container.state.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if container.state.running:
            return False
        return await self._scheduler.run("start", container.id, lambda _: self.start_now(container, manual=True))

    def start_again(self, container: Container) -> None:
        """Queue the start that a restart policy asks for."""

        async def work(_: Job) -> None:
            if container.state.restarting and not container.removed:
                try:
                    await self.start_now(container, manual=False)
                except DaemonError as error:
                    log.warning("restart container %s: %s", container.id, error)

        self._scheduler.spawn("start", container.id, work)

    async def start_now(self, container: Container, *, manual: bool) -> bool:
        """Start within a job of the container's; False if it runs already, or is about to be restarted and this is a client."""
        state = container.state
        if container.removed:
            raise NotFound(f"No such container: {container.id}")
        if state.removing or state.dead:
            raise Conflict("container is marked for removal and cannot be started")
        if state.running and (manual or not state.restarting):
            return False
        if container.releasing is not None:
            self._registry.flush()
            await asyncio.wait([container.releasing])
        await self._uses.vacate(container.id)
        if manual:
            state.restart_count = 0
            container.backoff.reset()
        state.manually_stopped = False
        container.no_restart = False
        state.starting = True
        state.error = ""
        settled = self.starting[container.id] = asyncio.get_running_loop().create_future()
        try:
            try:
                sandbox = await self._networking.plug(container)
                saved = self._registry.save(container)
                reply = await self._run(container, settled, sandbox)
            except DaemonError as error:
                await self._failed(container, error)
                raise
            except BaseException:
                state.starting = False
                await self._networking.unplugged(container)
                raise
            try:
                await saved
            finally:
                # It runs, whatever became of the record.
                self._started(container, reply)
            await self._attach_late(container)
        finally:
            # Until here whatever is told of this container belongs to this start.
            del self.starting[container.id]
            container.hang_up()
        return True

    async def _run(
        self, container: Container, settled: asyncio.Future[ContainerStatus | None], sandbox: PlugRequest | None
    ) -> StartReply:
        """Ask the runtime. An outcome that got lost with the connection is settled by the listing that follows."""
        spec = container.spec or build_spec(container, self.settings, self._registry.find)
        container.spec = None
        more = self._networking.links.environment(container)
        if more:
            spec = replace(spec, process=replace(spec.process, env=(*spec.process.env, *more)))
        make_host_directories(container.config.host_config)
        check_exclusive(container, self._registry)
        await _replayed(container.attachments)
        waiting, container.attachments = container.attachments, []
        try:
            return await self._ask(container, spec, waiting, sandbox)
        except LinkLost:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KILL_TIMEOUT * 2):
                    status = await settled
                    if status is not None and status.lost and not status.pid:
                        # It was on its way to the shim: it never came to be, and nobody may be told that it did.
                        self._exits.release(container)
                    elif status is not None:
                        if status.phase == "exited":
                            container.early_exit = status
                        return StartReply(pid=status.pid, started_at=status.started_at)
            raise
        finally:
            for pending in waiting:
                pending.close()

    async def _ask(self, container: Container, spec: Spec, waiting: list[Pending], sandbox: PlugRequest | None) -> StartReply:
        """One call, and others where a random port of the host's turns out to be a program's."""
        while True:
            try:
                return await self._runtime.start(
                    spec, [pending.attachment for pending in waiting], [pending.descriptor for pending in waiting], sandbox
                )
            except NetworkFailed as error:
                if not self._networking.other_ports(container, error):
                    raise self._networking.refusal(container, error) from error
            sandbox = await self._networking.plug(container)

    async def _attach_late(self, container: Container) -> None:
        """Hand over the clients that came while the start was on its way."""
        late, container.attachments = container.attachments, []
        await _replayed(late)
        for pending in late:
            try:
                await self._runtime.attach(container.id, pending.attachment, pending.descriptor)
            except DaemonError as error:
                log.info("attach to container %s: %s", container.id, error)
            finally:
                pending.close()

    def _started(self, container: Container, reply: StartReply) -> None:
        state = container.state
        state.starting = False
        state.running = True
        state.restarting = False
        state.pid = reply.pid
        state.started_at = reply.started_at
        state.finished_at = 0
        state.exit_code = 0
        state.oom_killed = False
        state.paused = False
        state.limits_pending = False
        state.log_dropped = 0
        container.ended.clear()
        for warning in reply.warnings:
            log.warning("container %s: %s", container.id, warning)
        publish_mounted(self._events, container)
        self._networking.plugged(container, reply.sandbox)
        self._exits.began(container, True)
        self._events.publish("container", "start", container.id, container.attributes())
        self._registry.save_later(container)
        early, container.early_exit = container.early_exit, None
        if early is not None:
            self._exits.handle(container, early)

    async def _failed(self, container: Container, error: DaemonError) -> None:
        """A start came to nothing: the record says why, and a container that removes itself goes."""
        state = container.state
        state.starting = False
        was_restarting = state.restarting
        state.running = False
        state.restarting = False
        state.pid = 0
        state.error = str(error)
        state.exit_code = error.failure.exit_code if isinstance(error, StartFailed) else 128
        container.early_exit = None
        await self._networking.unplugged(container)
        if was_restarting:
            container.waiters.ended(state.exit_code)
            container.log_ended()
        if container.auto_remove and not state.removing:
            self._exits.remove(container)
        else:
            await self._registry.save(container)

    async def stop(self, container: Container, signal: str | None, timeout: int | None) -> bool:
        """Stop a container; False if it doesn't run.

        Raises:
            InvalidParameter: there is no such signal.
            InternalError: it didn't end even when it was killed.
        """
        number = parse_signal(signal) if signal else self.stop_signal(container)
        if not (container.state.running or container.state.starting):
            return False

        async def work(job: Job) -> bool:
            return await self._stop(container, job, number, timeout)

        return await self._scheduler.run("stop", container.id, work)

    async def stop_now(self, container: Container, job: Job) -> bool:
        """Stop a container within a job of its, as a client would that says nothing of how; False if it doesn't run."""
        return await self._stop(container, job, self.stop_signal(container), None)

    async def restart(self, container: Container, signal: str | None, timeout: int | None) -> None:
        """Stop a container if it runs, and start it.

        Raises:
            DaemonError: as stop and start have it.
        """
        number = parse_signal(signal) if signal else self.stop_signal(container)

        async def work(job: Job) -> None:
            auto_remove, container.auto_remove = container.auto_remove, False
            container.goes_on = True
            try:
                await self._stop(container, job, number, timeout)
                await self.start_now(container, manual=True)
            finally:
                container.auto_remove = auto_remove
                container.goes_on = False
                container.log_ended()
            self._events.publish("container", "restart", container.id, container.attributes())

        await self._scheduler.run("stop", container.id, work)

    async def kill(self, container: Container, signal: str) -> None:
        """Send a signal; SIGKILL is waited for.

        Raises:
            InvalidParameter: there is no such signal.
            Conflict: it doesn't run.
        """
        number = parse_signal(signal or "SIGKILL")

        async def work(job: Job) -> None:
            if not container.state.running:
                raise Conflict(f"container {container.id} is not running")
            if number == signals.SIGKILL:
                await self.kill_and_wait(container, job)
            else:
                await self._signal(container, number)

        await self._scheduler.run("kill", container.id, work)

    async def kill_and_wait(self, container: Container, job: Job) -> None:
        """Within a job: send SIGKILL and wait for the end.

        Raises:
            InternalError: it didn't end.
        """
        ended = container.waiters.add("next-exit")
        try:
            # There may be nothing left to kill while the shim still records how it ended: the record is worth waiting for.
            if not await self._signal(container, signals.SIGKILL) and not container.state.running:
                return
            async with job.released():
                _, late = await asyncio.wait([ended], timeout=KILL_TIMEOUT)
        finally:
            ended.cancel()
        if late:
            raise InternalError(
                f"cannot kill container: {container.name}: tried to kill container, but did not receive an exit event"
            )

    async def stop_all(self, timeout: float) -> None:
        """Stop every container, as the daemon's own end asks for: none counts as stopped by a client, nor is restarted.

        Args:
            timeout: seconds between each one's stop signal and SIGKILL, where it has none of its own.
        """
        self._exits.draining = True

        async def one(container: Container) -> None:
            with contextlib.suppress(DaemonError):
                own = container.config.config.stop_timeout
                seconds = own if isinstance(own, int) else int(timeout)
                await self._scheduler.run(
                    "shutdown", container.id, lambda job: self._stop(container, job, self.stop_signal(container), seconds)
                )

        await asyncio.gather(*(one(c) for c in self._registry if c.state.running or c.state.starting))

    async def _stop(self, container: Container, job: Job, number: int, timeout: int | None) -> bool:
        """Within a job: the stop signal, its time, SIGKILL."""
        if not container.state.running:
            return False
        own = container.config.config.stop_timeout
        seconds = timeout if timeout is not None else own if isinstance(own, int) else STOP_TIMEOUT
        ended = container.waiters.add("next-exit")
        container.no_restart = True
        try:
            if await self._signal(container, number):
                async with job.released():
                    await asyncio.wait([ended], timeout=None if seconds < 0 else seconds)
            if not ended.done() and container.state.running:
                await self.kill_and_wait(container, job)
        finally:
            ended.cancel()
        self._events.publish("container", "stop", container.id, container.attributes())
        return True

    async def _signal(self, container: Container, number: int) -> bool:
        """Within a job: send a signal, and record that a client did; False if there was nothing left to send it to."""
        state = container.state
        own = container.config.config.stop_signal
        unpause = False
        if not own or number == signals.SIGKILL or number == self.stop_signal(container):
            container.no_restart = True
            unpause = state.paused
        saved = None
        if not self._exits.draining and not state.manually_stopped:
            state.manually_stopped = True
            saved = self._registry.save(container)
        if self._exits.cancel_restart(container):
            sent = False
            saved = self._registry.save(container)
        else:
            sent = await self._runtime.signal(container.id, number)
            self._events.publish("container", "kill", container.id, container.attributes({"signal": str(number)}))
            if unpause:
                # What has been sent takes effect then.
                try:
                    await self._pausing.unpause_now(container)
                except DaemonError as error:
                    log.warning("%s", error)
        if saved is not None:
            await saved
        return sent

    def stop_signal(self, container: Container) -> int:
        """The number of the signal that the container is stopped with."""
        own = container.config.config.stop_signal
        return parse_signal(own) if own else int(signals.SIGTERM)


async def _replayed(line: Iterable[Pending]) -> None:
    """Wait until clients can be given a container's output, as long as they deserve."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REPLAY_TIMEOUT):
            for pending in tuple(line):
                await pending.replayed.wait()
