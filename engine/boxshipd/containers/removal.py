"""Removing containers, one or all that don't run."""

from __future__ import annotations

import asyncio
import logging

from boxship.types.containers import PruneResponse

from boxshipd.containers.directories import Directories
from boxshipd.containers.exits import Exits
from boxshipd.containers.lifecycle import Lifecycle
from boxshipd.containers.model import Container
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.registry import Registry
from boxshipd.directory_size import size_of
from boxshipd.errors import Conflict, DaemonError, InternalError, NotFound
from boxshipd.events import Events
from boxshipd.files.uses import Uses
from boxshipd.filters import Filters
from boxshipd.scheduler.jobs import Job, Scheduler
from boxshipd.scheduler.timers import Timers
from boxshipd.volumes.service import Volumes, delete

log = logging.getLogger(__name__)

PRUNE_FILTERS = frozenset({"label", "label!", "until"})


class Removal:
    """Takes containers away."""

    def __init__(
        self,
        *,
        registry: Registry,
        directories: Directories,
        lifecycle: Lifecycle,
        exits: Exits,
        events: Events,
        scheduler: Scheduler,
        timers: Timers,
        uses: Uses,
        volumes: Volumes,
        networking: ContainerNetworking,
    ) -> None:
        self._registry = registry
        self._volumes = volumes
        self._pruning = False
        self._directories = directories
        self._lifecycle = lifecycle
        self._exits = exits
        self._events = events
        self._scheduler = scheduler
        self._timers = timers
        self._uses = uses
        self._networking = networking

    async def remove(self, container: Container, ref: str, *, force: bool, volumes: bool = False) -> None:
        """Remove a container, answering when that is durable; its files go later.

        Args:
            container: which one.
            ref: what the client called it.
            force: whether to kill it if it runs.
            volumes: whether its anonymous volumes go too, where no other container uses them.

        Raises:
            Conflict: it runs and not ``force``, or is being removed already.
            InternalError: it couldn't be killed.
        """
        if container.state.removing:
            raise Conflict(f"removal of container {ref} is already in progress")

        async def work(job: Job) -> None:
            if container.removed:
                raise NotFound(f"No such container: {ref}")
            state = container.state
            if state.removing:
                raise Conflict(f"removal of container {ref} is already in progress")
            if state.running and not force:
                how = " and must be unpaused first" if state.paused else ": stop the container before removing or force remove"
                raise Conflict(f'cannot remove container "/{container.name}": container is {state.status}{how}')
            state.removing = True
            try:
                if state.running:
                    await self._lifecycle.kill_and_wait(container, job)
                await self._forget(container, volumes=volumes)
            except InternalError as error:
                raise InternalError(f'cannot remove container "/{container.name}": could not kill: {error}') from error
            finally:
                state.removing = container.removed

        await self._scheduler.run("remove", container.id, work)

    def remove_ended(self, container: Container) -> None:
        """Queue the removal of a container that removes itself."""
        container.state.removing = True

        async def work(_: Job) -> None:
            if container.removed:
                return
            try:
                await self._forget(container, volumes=True)
            except DaemonError as error:
                container.state.removing = False
                log.error("remove container %s: %s", container.id, error)

        self._scheduler.spawn("remove", container.id, work)

    async def prune(self, filters: Filters) -> PruneResponse:
        """Remove every container that doesn't run and that the filters select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
            Conflict: another prune is under way.
        """
        filters.validate(PRUNE_FILTERS)
        latest = filters.until()
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        try:
            return await self._prune(filters, latest)
        finally:
            self._pruning = False

    async def _prune(self, filters: Filters, latest: int | None) -> PruneResponse:
        removed: list[str] = []
        reclaimed = 0
        for container in self._registry:
            labels = container.config.config.labels
            selected = filters.labels("label", labels) and filters.not_labels("label!", labels)
            if container.state.running or container.state.starting or not selected:
                continue
            if latest is not None and container.config.created > latest:
                continue
            size = await asyncio.to_thread(size_of, f"{container.directory}/upper")
            try:
                await self.remove(container, container.id, force=False)
            except DaemonError as error:
                log.info("prune: container %s stays: %s", container.id, error)
                continue
            removed.append(container.id)
            reclaimed += size
        self._events.publish("container", "prune", "", {"reclaimed": str(reclaimed)})
        return PruneResponse(containers_deleted=removed or None, space_reclaimed=reclaimed)

    async def _forget(self, container: Container, *, volumes: bool) -> None:
        """The record goes first: what a crash leaves after that has no owner, and the next start sweeps it."""
        await self._uses.vacate(container.id, 0)
        await self._networking.unplugged(container)
        self._timers.cancel(container.id)
        anonymous = [attached.volume for attached in container.config.attached if attached.anonymous] if volumes else []
        if anonymous:
            await self._delete_with(container, anonymous)
        else:
            await self._registry.delete(container)
        container.removed = True
        container.hang_up()
        self._events.publish("container", "destroy", container.id, container.attributes())
        container.waiters.removed(container.state.exit_code)
        container.ended.set()
        if container.state.started_at:
            self._exits.release(container)
        self._directories.discard(container.id)

    async def _delete_with(self, container: Container, names: list[str]) -> None:
        """The container's record and those of its volumes go together, so that neither is left without the other."""
        doomed = self._volumes.set_aside(names, container.id)
        try:
            await self._registry.delete(container, lambda db: delete(db, doomed))
        except DaemonError:
            self._volumes.bring_back(doomed)
            raise
        self._volumes.forget(doomed)
