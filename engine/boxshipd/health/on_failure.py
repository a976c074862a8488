"""What becomes of a container that is found unhealthy (``--health-on-failure``).

``kill`` leaves what follows to the restart policy, ``restart`` starts the container again whatever its policy is, after its
stop signal and its time to stop, ``stop`` stops it as a client does.
"""

from __future__ import annotations

import asyncio
import logging
import signal

from boxshipd.containers.lifecycle import STOP_TIMEOUT, Lifecycle
from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.health.settings import OnFailure, on_failure
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler

log = logging.getLogger(__name__)


class FailureActions:
    """Does what containers ask for, one thing at a time for each."""

    def __init__(
        self, registry: Registry, events: Events, runtime: RuntimeLink, lifecycle: Lifecycle, scheduler: Scheduler
    ) -> None:
        self._registry = registry
        self._events = events
        self._runtime = runtime
        self._lifecycle = lifecycle
        self._scheduler = scheduler
        self._acting: set[str] = set()

    def unhealthy(self, container: Container) -> None:
        """A container's probe has failed, and it is unhealthy."""
        action = on_failure(container.config.config, container.config.host_config)
        # A container that a client is ending is left to that.
        if action == "none" or container.no_restart or container.id in self._acting:
            return
        self._acting.add(container.id)
        run = container.state.started_at

        async def work(job: Job) -> None:
            try:
                # A client may have been faster.
                if container.state.running and not container.state.restarting and container.state.started_at == run:
                    await self._act(container, action, job)
            except DaemonError as error:
                log.warning("container %s is unhealthy: %s: %s", container.id, action, error)
            finally:
                self._acting.discard(container.id)

        self._scheduler.spawn("stop", container.id, work)

    async def _act(self, container: Container, action: OnFailure, job: Job) -> None:
        log.info("container %s is unhealthy: %s", container.id, action)
        if action == "stop":
            await self._lifecycle.stop_now(container, job)
            return
        if action == "restart":
            # On record first: it counts although this daemon may not live to see the container's end.
            container.state.restart_wanted = True
            await self._registry.save(container)
            if await self._end(container, job, self._lifecycle.stop_signal(container), self._patience(container)):
                return
        await self._end(container, job, signal.SIGKILL, STOP_TIMEOUT)

    async def _end(self, container: Container, job: Job, number: int, seconds: float) -> bool:
        """Send a signal that no client has asked for, and wait for the end; whether it came."""
        ended = container.waiters.add("next-exit")
        try:
            if not await self._runtime.signal(container.id, number):
                return True
            attributes = container.attributes({"signal": str(int(number))})
            self._events.publish("container", "kill", container.id, attributes)
            async with job.released():
                await asyncio.wait([ended], timeout=None if seconds < 0 else seconds)
            return ended.done()
        finally:
            ended.cancel()

    @staticmethod
    def _patience(container: Container) -> float:
        own = container.config.config.stop_timeout
        return own if isinstance(own, int) else STOP_TIMEOUT
