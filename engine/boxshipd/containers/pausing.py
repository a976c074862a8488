"""Pause and unpause. Source: moby daemon/pause.go, unpause.go.

Whether a container is paused is the kernel's to say: the runtime tells it in its listing, and the record only keeps it for the
time when the runtime can't be asked.
"""

from __future__ import annotations

from boxrun.supervisor.contract import ContainerRef, Runtime

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.errors import Conflict, DaemonError, InternalError, Unavailable
from boxshipd.events import Events
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler


class Pausing:
    """Stops all processes of a container, and lets them run again."""

    def __init__(self, registry: Registry, events: Events, runtime: RuntimeLink, scheduler: Scheduler) -> None:
        self._registry = registry
        self._events = events
        self._runtime = runtime
        self._scheduler = scheduler

    async def pause(self, container: Container) -> None:
        """Pause a container, answering when all its processes stand still.

        Raises:
            Conflict: it doesn't run, waits to be restarted, or is paused already.
            InternalError: a process didn't stop.
        """
        await self._scheduler.run("pause", container.id, lambda _: self.pause_now(container))

    async def unpause(self, container: Container) -> None:
        """Let a paused container run again.

        Raises:
            Conflict: it isn't paused.
        """

        async def work(_: Job) -> None:
            if not container.state.paused:
                raise Conflict(f"Container {container.id} is not paused")
            await self.unpause_now(container)

        await self._scheduler.run("unpause", container.id, work)

    async def pause_now(self, container: Container) -> None:
        """As ``pause``, within a job of the container's."""
        state = container.state
        if not state.running:
            raise Conflict(f"container {container.id} is not running")
        if state.restarting:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        if state.paused:
            raise Conflict(f"Container {container.id} is already paused")
        started = state.started_at
        try:
            await self._runtime.call(Runtime.freeze, ContainerRef(id=container.id), "freeze", repeat=True)
        except (Conflict, Unavailable) as error:
            raise type(error)(f"Cannot pause container {container.id}: {error}") from error
        except DaemonError as error:
            raise InternalError(f"Cannot pause container {container.id}: {error}") from error
        if not state.running or state.restarting or state.started_at != started:
            raise Conflict(f"container {container.id} is not running")
        state.paused = True
        saved = self._registry.save(container)
        self._events.publish("container", "pause", container.id, container.attributes())
        await saved

    async def unpause_now(self, container: Container) -> None:
        """Let it run again, within a job of the container's; nothing happens where it isn't paused."""
        state = container.state
        if not state.paused:
            return
        try:
            await self._runtime.call(Runtime.thaw, ContainerRef(id=container.id), "thaw", repeat=True)
        except Conflict:
            # It has ended meanwhile: a kill reaches those that stand still as well.
            return
        except Unavailable as error:
            raise Unavailable(f"Cannot unpause container {container.id}: {error}") from error
        except DaemonError as error:
            raise InternalError(f"Cannot unpause container {container.id}: {error}") from error
        if not state.paused:
            return
        state.paused = False
        saved = self._registry.save(container)
        self._events.publish("container", "unpause", container.id, container.attributes())
        await saved
