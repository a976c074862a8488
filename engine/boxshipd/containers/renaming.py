"""``rename``. Source: moby daemon/rename.go."""

from __future__ import annotations

from boxshipd.containers.names import validate_name
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.registry import Registry
from boxshipd.errors import Conflict, DaemonError, InvalidParameter
from boxshipd.events import Events
from boxshipd.scheduler.jobs import Job, Scheduler


class Renaming:
    """Gives containers other names."""

    def __init__(self, registry: Registry, events: Events, networking: ContainerNetworking, scheduler: Scheduler) -> None:
        self._registry = registry
        self._events = events
        self._networking = networking
        self._scheduler = scheduler

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name.

        Raises:
            NotFound: there is no such container.
            InvalidParameter: the name can't be, or is its present one.
            Conflict: the name is in use.
        """
        if not name:
            raise InvalidParameter("Neither old nor new names may be empty")
        container = self._registry.find(ref)

        async def work(_: Job) -> None:
            old = container.name
            if name.removeprefix("/") == old:
                raise InvalidParameter("Renaming a container with the same name as its current name")
            if container.removed:
                raise Conflict(f"removal of container {ref} is already in progress")
            try:
                new = validate_name(name)
                self._registry.reserve(new, container.id)
            except DaemonError as error:
                raise type(error)(f"Error when allocating new name: {error}") from error
            try:
                await self._registry.rename(container, new)
            except BaseException:
                self._registry.release(new)
                raise
            await self._networking.renamed(container)
            self._events.publish("container", "rename", container.id, container.attributes({"oldName": f"/{old}"}))

        await self._scheduler.run("rename", container.id, work)
