"""After each connection to the runtime: its listing and our records are brought to say the same.

The runtime knows what ran and how it ended; the records know what ought to be.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable

from boxrun.supervisor.contract import ContainerStatus, RuntimeEvent

from boxshipd.containers.exits import LOST, Exits
from boxshipd.containers.lifecycle import Lifecycle
from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.transients import Transients
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.restart import FIRST_DELAY, wants_restart
from boxshipd.scheduler.timers import Timers

log = logging.getLogger(__name__)


class Reconciliation:
    """Takes in what the runtime tells: listings and events."""

    def __init__(
        self,
        *,
        registry: Registry,
        lifecycle: Lifecycle,
        exits: Exits,
        events: Events,
        runtime: RuntimeLink,
        timers: Timers,
        transients: Transients,
    ) -> None:
        self._registry = registry
        self._transients = transients
        self._lifecycle = lifecycle
        self._exits = exits
        self._events = events
        self._runtime = runtime
        self._timers = timers
        self.limit_again: Callable[[Container], None] = lambda _: None
        """Queues what brings a running container's limits to what the record says; set once, when all parts are there."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._first = True
        self._unsettled: set[str] = set()

    def listing(self, statuses: list[ContainerStatus]) -> None:
        """A connection was made: everything the runtime has."""
        known = {status.id: status for status in statuses}
        # Their answers went to the connection before this one: what becomes of them is told by an event.
        self._unsettled = {status.id for status in statuses if status.phase == "starting"}
        for container in self._registry:
            status = known.pop(container.id, None)
            settled = self._lifecycle.starting.get(container.id)
            if settled is not None:
                if not settled.done() and (status is None or status.phase != "starting"):
                    settled.set_result(status)
            elif status is None:
                self._absent(container)
            else:
                self._present(container, status)
        for status in known.values():
            self._stranger(status)
        if self._first:
            self._first = False
            self._apply_policies()

    def event(self, event: RuntimeEvent) -> None:
        """Something happened."""
        status = event.status
        if status is None:
            return
        container = self._registry.get(status.id)
        if container is None:
            if event.kind in ("started", "exited"):
                self._stranger(status)
            return
        settled = self._lifecycle.starting.get(container.id)
        if event.kind in ("started", "exited") and container.id in self._unsettled:
            self._unsettled.discard(container.id)
            if settled is not None and not settled.done():
                settled.set_result(status)
        if event.kind == "exited":
            if settled is None and container.state.starting:
                self._adopt(container, status)
            self._exits.handle(container, status)
        elif event.kind == "started" and settled is None and (not container.state.running or container.state.restarting):
            self._adopt(container, status)
        elif event.kind == "oom":
            container.state.oom_killed = True
            self._events.publish("container", "oom", container.id, container.attributes())
        elif event.kind == "detached":
            self._events.publish("container", "detach", container.id, container.attributes())

    def _present(self, container: Container, status: ContainerStatus) -> None:
        """The runtime has it."""
        state = container.state
        if status.phase == "starting":
            state.starting = True
        elif status.phase == "running":
            self._adopt(container, status)
        elif state.running and not state.restarting:
            self._exits.handle(container, status)
        elif state.starting or status.started_at > state.started_at:
            self._adopt(container, status)
            self._exits.handle(container, status)
        else:
            self._exits.release(container)

    def _absent(self, container: Container) -> None:
        """The runtime hasn't it: what should run is lost, and nobody knows how it ended."""
        state = container.state
        if state.starting:
            state.starting = False
            state.running = True
            state.restarting = False
        if not state.running or state.restarting:
            return
        lost = ContainerStatus(
            id=container.id,
            phase="exited",
            started_at=state.started_at,
            finished_at=time.time_ns(),
            exit_code=LOST,
            lost=True,
            error="the container's end was not seen: its exit status is unknown",
        )
        self._exits.handle(container, lost)

    def _adopt(self, container: Container, status: ContainerStatus) -> None:
        """A run that began without our having taken in the answer, or goes on since before we came."""
        state = container.state
        known = state.running and not state.restarting and state.started_at == status.started_at
        new_run = not known
        known = known and state.paused == status.paused
        state.paused = status.paused
        state.starting = False
        state.running = True
        state.restarting = False
        state.pid = status.pid
        state.started_at = status.started_at
        state.finished_at = 0
        state.exit_code = 0
        state.error = ""
        self._timers.cancel(container.id)
        container.ended.clear()
        self._exits.began(container, new_run)
        if not known:
            self._registry.save_later(container)
        if state.limits_pending:
            self.limit_again(container)

    def _stranger(self, status: ContainerStatus) -> None:
        """A container without a record: it ought not to be, unless some work under way has it."""
        if self._transients.has(status.id):
            return

        async def end() -> None:
            try:
                if status.phase == "exited":
                    await self._runtime.release(status.id)
                else:
                    log.warning("container %s runs without a record: killing it", status.id)
                    await self._runtime.signal(status.id, signal.SIGKILL)
            except DaemonError as error:
                log.warning("end unknown container %s: %s", status.id, error)

        task = asyncio.create_task(end())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _apply_policies(self) -> None:
        """The daemon has just begun: what its policy wants to run is started, what removes itself and has ended goes."""
        for container in self._registry:
            state = container.state
            if state.removing or state.starting or container.id in self._timers.pending():
                continue
            if state.running and not state.restarting:
                continue
            if state.restarting or (state.started_at and self._wanted(container)):
                state.running = True
                state.restarting = True
                self._timers.set(container.id, FIRST_DELAY, lambda c=container: self._lifecycle.start_again(c))  # type: ignore[misc]
            elif container.auto_remove and state.started_at:
                self._exits.remove(container)

    @staticmethod
    def _wanted(container: Container) -> bool:
        state = container.state
        return not state.starting and wants_restart(
            container.config.host_config.restart_policy,
            exit_code=state.exit_code,
            restart_count=state.restart_count,
            manually_stopped=state.manually_stopped,
        )
