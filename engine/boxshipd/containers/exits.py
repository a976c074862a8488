"""What follows a container's end: the record, the event, those who wait, and then its restart, its removal or nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from boxrun.supervisor.contract import ContainerStatus

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.volumes.lifetime import publish_unmounted
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.restart import wants_restart
from boxshipd.scheduler.timers import Timers

log = logging.getLogger(__name__)

LOST = 255
"""The exit code of a container whose true one nobody knows."""

Action = Callable[[Container], None]


class Exits:
    """Handles ends. ``start_again`` and ``remove`` queue the jobs that may follow; set once, when all parts are there."""

    def __init__(self, registry: Registry, events: Events, runtime: RuntimeLink, timers: Timers) -> None:
        self._registry = registry
        self._events = events
        self._runtime = runtime
        self._timers = timers
        self._tasks: set[asyncio.Task[None]] = set()
        self.start_again: Action = lambda _: None
        self.remove: Action = lambda _: None
        self.began: Callable[[Container, bool], None] = lambda _container, _new: None
        """A run has begun, or one was found that goes on."""
        self.ended: Action = lambda _: None
        self.left: Action = lambda _: None
        """A run is over and told of: what it held of networks is to be given back, unless it runs again."""
        self.draining = False

    def handle(self, container: Container, status: ContainerStatus) -> None:
        """A run of this container has ended, as the runtime or the reconciliation tells."""
        state = container.state
        if state.starting:
            container.early_exit = status
            return
        if not state.running or state.restarting:
            self.release(container)
            return
        state.pid = 0
        state.paused = False
        state.limits_pending = False
        state.exit_code = status.exit_code
        state.oom_killed = status.oom_killed
        state.finished_at = status.finished_at or time.time_ns()
        # Of a lost run nobody may know when it began, but it did.
        state.started_at = status.started_at or state.started_at or state.finished_at
        state.error = status.error
        state.log_dropped = status.log_dropped
        lived = max(0.0, (state.finished_at - state.started_at) / 1e9) if state.started_at else 0.0
        restart = self._wants_restart(container)
        state.restart_wanted = False
        if restart:
            state.restarting = True
            state.restart_count += 1
        else:
            state.running = False
        container.log_ended()
        self.ended(container)
        details = {"execDuration": str(int(lived)), "exitCode": str(state.exit_code)}
        self._events.publish("container", "die", container.id, container.attributes(details))
        publish_unmounted(self._events, container)
        self.left(container)
        container.waiters.ended(state.exit_code)
        if restart:
            self._timers.set(container.id, container.backoff.next(lived), lambda: self.start_again(container))
        self.after(container)

    def after(self, container: Container) -> None:
        """The last run is over and won't be followed by another by itself: auto-remove, or record and release."""
        if container.auto_remove and not container.state.running:
            if not container.state.removing:
                self.remove(container)
        else:
            self.record(container)

    def record(self, container: Container) -> None:
        """Record the end, and when that is durable let the runtime forget it: until then its own record is the durable one."""
        self._release_after(container, self._registry.save_later(container))

    def release(self, container: Container) -> None:
        """Let the runtime forget a container's last run."""
        self._release_after(container, None)

    def cancel_restart(self, container: Container) -> bool:
        """Turn a container that waits to be restarted into one that has ended; whether it was."""
        state = container.state
        if not state.restarting:
            return False
        self._timers.cancel(container.id)
        state.restarting = False
        state.running = False
        self.left(container)
        container.log_ended()
        container.waiters.ended(state.exit_code)
        return True

    async def settle(self) -> None:
        """Wait until everything that has ended so far is recorded and released."""
        self._registry.flush()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _wants_restart(self, container: Container) -> bool:
        state = container.state
        return (
            not self.draining
            and not container.no_restart
            and not state.removing
            and (
                state.restart_wanted
                or wants_restart(
                    container.config.host_config.restart_policy,
                    exit_code=state.exit_code,
                    restart_count=state.restart_count,
                    manually_stopped=state.manually_stopped,
                )
            )
        )

    def _release_after(self, container: Container, saved: asyncio.Future[None] | None) -> None:
        task = asyncio.create_task(self._release(container, saved, container.releasing))
        container.releasing = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(
        self, container: Container, saved: asyncio.Future[None] | None, before: asyncio.Task[None] | None
    ) -> None:
        try:
            if before is not None:
                await before
            if saved is not None:
                # Others wait for the same flush: none of them may cancel it.
                await asyncio.wait([saved])
                if saved.cancelled() or saved.exception() is not None:
                    return
            await self._runtime.release(container.id)
        except DaemonError as error:
            # The runtime keeps the exit until it is told; the next listing has it again.
            log.warning("release container %s: %s", container.id, error)
        finally:
            if container.releasing is asyncio.current_task():
                container.releasing = None
