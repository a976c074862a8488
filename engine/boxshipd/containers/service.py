"""What the rest of the daemon asks of containers."""

from __future__ import annotations

import builtins
from collections.abc import Awaitable

from boxrun.supervisor.contract import Framing
from boxship.types.containers import (
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    PruneResponse,
    TopResponse,
    UpdateResponse,
    WaitResponse,
)
from boxship.types.networks import EndpointSettings
from boxship.types.stats import StatsResponse
from boxship.types.update import UpdateRequest

from boxshipd.containers.attach import AttachOptions, AttachSlot
from boxshipd.containers.inspect import inspect
from boxshipd.containers.log import drops as log_drops
from boxshipd.containers.parts import ContainerParts
from boxshipd.containers.stats import Follower
from boxshipd.errors import Conflict, InvalidParameter, NotFound, NotImplementedHere
from boxshipd.filters import Filters
from boxshipd.images.service import ImageUse
from boxshipd.logs.options import LogSource

__all__ = ["AttachOptions", "AttachSlot", "Containers", "LogSource"]


class Containers:
    """Every operation on containers. ``ref`` is a full id, a unique beginning of one, or a name (with or without ``/``).

    Its parts are opened before the first request.
    """

    def __init__(self, parts: ContainerParts) -> None:
        self._parts = parts
        self._registry = parts.registry
        self._lifecycle = parts.lifecycle
        self.files = parts.files
        self.execs = parts.execs
        """Further programs in containers."""
        self.transients = parts.transients
        """Containers without a record: what runs builds' commands."""

    async def create(self, name: str, request: CreateRequest, platform: str = "") -> CreateResponse:
        """Create a container; an empty ``name`` gets one made up.

        Raises:
            NotFound: no such image, network or container.
            Conflict: the name is in use.
            InvalidParameter, NotImplementedHere: the configuration can't be, or not here.
        """
        # It has no name to be ordered by yet, so it is a job for its limit and the listing.
        return await self._parts.scheduler.run("create", "", lambda _: self._parts.creator.create(name, request, platform))

    async def start(self, ref: str, detach_keys: str | None = None) -> bool:
        """Start it; False if it runs already. ``detach_keys`` is what attached clients brought with them, and not needed here.

        Raises:
            NotFound, Conflict
            StartFailed: its program couldn't be run.
        """
        return await self._lifecycle.start(self._registry.find(ref))

    async def stop(self, ref: str, signal: str | None = None, timeout: int | None = None) -> bool:
        """Stop it, with SIGKILL after ``timeout`` seconds (-1: never); False if it doesn't run.

        Raises:
            NotFound, InvalidParameter, InternalError
        """
        return await self._lifecycle.stop(self._registry.find(ref), signal, timeout)

    async def restart(self, ref: str, signal: str | None = None, timeout: int | None = None) -> None:
        """Stop it if it runs, and start it.

        Raises:
            NotFound, InvalidParameter, Conflict, InternalError
        """
        await self._lifecycle.restart(self._registry.find(ref), signal, timeout)

    async def kill(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal, by name or number; the end that SIGKILL brings is waited for.

        Raises:
            NotFound, InvalidParameter
            Conflict: it doesn't run.
        """
        try:
            await self._lifecycle.kill(self._registry.find(ref), signal)
        except (NotFound, InvalidParameter, Conflict) as error:
            raise type(error)(f"cannot kill container: {ref}: {error}") from error

    async def wait(self, ref: str, condition: str = "not-running") -> Awaitable[WaitResponse]:
        """Register a waiter (``not-running``, ``next-exit`` or ``removed``) and return it: awaiting that gives the result.

        Raises:
            NotFound: there is no such container.
            InvalidParameter: there is no such condition.
        """
        container = self._registry.find(ref)
        future = container.waiters.add(condition or "not-running")
        state = container.state
        if condition in {"", "not-running"} and not state.starting and (not state.running or state.restarting):
            future.set_result(WaitResponse(status_code=state.exit_code))
        return future

    async def inspect(self, ref: str, size: bool = False) -> ContainerInspect:
        """Everything about one container; ``size`` adds the bytes it has written.

        Raises:
            NotFound: there is no such container.
        """
        container = self._registry.find(ref)
        await self._parts.health.current(container)
        await log_drops.refresh(container, self._parts.runtime)
        sizes = await self._parts.listing.sizes(container) if size else None
        return inspect(container, self._registry, self._parts.networks, sizes)

    async def remove(self, ref: str, volumes: bool = False, force: bool = False, link: bool = False) -> None:
        """Remove it, killing it first where ``force``. ``volumes`` takes its anonymous volumes with it.

        ``link``: remove nothing but the link ``container/alias``.

        Raises:
            NotFound: there is no such container.
            Conflict: it runs and not ``force``, or is being removed already.
        """
        if link:
            await self._parts.unlinking.unlink(ref)
            return
        container = self._registry.find(ref)
        await self._parts.removal.remove(container, ref, force=force, volumes=volumes)

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name.

        Raises:
            NotFound: there is no such container.
            InvalidParameter: the name can't be, or is its present one.
            Conflict: the name is in use.
        """
        await self._parts.renaming.rename(ref, name)

    async def connect(self, ref: str, network: str, settings: EndpointSettings | None) -> None:
        """Put it on a network, running or not.

        Raises:
            NotFound, InvalidParameter, Conflict, Forbidden, InternalError
        """
        await self._parts.attachment.connect(ref, network, settings)

    async def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        """Take it off a network, running or not.

        Raises:
            NotFound, InvalidParameter, Conflict, InternalError
        """
        await self._parts.attachment.disconnect(ref, network, force=force)

    async def prune(self, filters: Filters) -> PruneResponse:
        """Remove every container that doesn't run and that the filters (``until``, ``label``, ``label!``) select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
        """
        return await self._parts.removal.prune(filters)

    async def pause(self, ref: str) -> None:
        """Stop all its processes.

        Raises:
            NotFound, InternalError
            Conflict: it doesn't run, or is paused already.
        """
        await self._parts.pausing.pause(self._registry.find(ref))

    async def unpause(self, ref: str) -> None:
        """Let its processes run again.

        Raises:
            NotFound, InternalError
            Conflict: it isn't paused.
        """
        await self._parts.pausing.unpause(self._registry.find(ref))

    async def update(self, ref: str, changes: UpdateRequest) -> UpdateResponse:
        """Give it other limits or another restart policy, running or not; all of them or none.

        Raises:
            NotFound, InvalidParameter, Conflict, InternalError
        """
        return await self._parts.updating.update(self._registry.find(ref), changes)

    def stats(self, ref: str) -> Follower:
        """Samples of its resource usage, one a second, until it is removed. ``close`` the result in the end.

        Raises:
            NotFound: there is no such container.
        """
        return self._parts.collector.follow(self._registry.find(ref))

    async def stats_once(self, ref: str, *, primed: bool) -> StatsResponse:
        """One sample; ``primed`` waits for a second one, so that it has the processor time of the one before.

        Raises:
            NotFound, Unavailable, InternalError
        """
        return await self._parts.collector.single(self._registry.find(ref), primed=primed)

    async def top(self, ref: str, arguments: str) -> TopResponse:
        """Its processes as ps(1) shows them with these arguments.

        Raises:
            NotFound, Conflict, InvalidParameter, InternalError
        """
        return await self._parts.top.list(self._registry.find(ref), arguments)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set its terminal's size in characters.

        Raises:
            NotFound: there is no such container.
            Conflict: it doesn't run.
        """
        container = self._registry.find(ref)
        if not container.state.running or container.state.restarting:
            raise Conflict(f"container {container.id} is not running")
        await self._parts.runtime.resize(container.id, height, width)
        size = {"height": str(height), "width": str(width)}
        self._parts.events.publish("container", "resize", container.id, container.attributes(size))

    async def attachable(self, ref: str, options: AttachOptions, framing: Framing = "multiplexed") -> AttachSlot:
        """Take a place at its streams, running or not yet; errors are raised here, before any 101 head is sent.

        Args:
            ref: the container.
            options: what the client wants of it.
            framing: how output is written; ``multiplexed`` becomes ``raw`` with a terminal, as Docker has it.

        Raises:
            NotFound, InvalidParameter
            Conflict: it waits to be restarted.
        """
        return AttachSlot(self._registry.find(ref), options, framing, self._parts.runtime, self._parts.events)

    async def log_source(self, ref: str) -> LogSource:
        """What reading its log takes.

        Raises:
            NotFound: there is no such container.
            NotImplementedHere: its driver can't be read back.
        """
        container = self._registry.find(ref)
        if not container.config.log.path:
            raise NotImplementedHere("configured logging driver does not support reading")
        return LogSource(log=container.config.log, terminal=container.config.config.tty, ended=container.ended)

    def counts(self) -> tuple[int, int, int]:
        """How many containers are running, paused and stopped."""
        running = sum(container.state.running for container in self._registry)
        paused = sum(container.state.paused for container in self._registry)
        return running - paused, paused, len(self._registry) - running

    def image_uses(self, image_id: str) -> builtins.list[ImageUse]:
        """The containers made of an image, those being created included: what stands in the way of its removal."""
        found = [
            ImageUse(container_id=c.id, name=c.name, running=c.state.running)
            for c in self._registry
            if c.config.image_id == image_id or any(attached.image == image_id for attached in c.config.attached)
        ]
        return found + [
            ImageUse(container_id=id_, name=name, running=False)
            for id_, (name, image) in self._parts.creator.creating.items()
            if image == image_id
        ]

    async def list(
        self,
        all: bool = False,  # noqa: A002 - Docker's name
        limit: int = 0,
        size: bool = False,
        filters: Filters | None = None,
    ) -> builtins.list[ContainerSummary]:
        """Containers as ``ps`` shows them, newest first.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
            NotFound: a filter names a container there isn't.
        """
        return await self._parts.listing.rows(every=all, limit=limit, size=size, filters=filters or Filters())
