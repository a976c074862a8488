"""What the rest of the daemon asks of containers."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Awaitable
from functools import partial

from boxrun.network.contract import Policy
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

from boxshipd.containers import log_drops
from boxshipd.containers.attach import AttachOptions, AttachSlot
from boxshipd.containers.attachment import Attachment
from boxshipd.containers.create import Creator
from boxshipd.containers.directories import Directories
from boxshipd.containers.exits import Exits
from boxshipd.containers.inspect import inspect
from boxshipd.containers.lifecycle import Lifecycle
from boxshipd.containers.listing import Listing
from boxshipd.containers.names import validate_name
from boxshipd.containers.network_joining import Joining
from boxshipd.containers.network_restoration import Restoration
from boxshipd.containers.networking import ContainerNetworking
from boxshipd.containers.pausing import Pausing
from boxshipd.containers.reconcile import Reconciliation
from boxshipd.containers.registry import Registry
from boxshipd.containers.removal import Removal
from boxshipd.containers.settings import Settings
from boxshipd.containers.stats import Collector, Follower
from boxshipd.containers.top import Top
from boxshipd.containers.transients import Transients
from boxshipd.containers.unlinking import Unlinking
from boxshipd.containers.updating import Updating
from boxshipd.containers.volumes import ContainerVolumes, volume_uses
from boxshipd.errors import Conflict, DaemonError, InvalidParameter, NotFound, NotImplementedHere
from boxshipd.events import Events
from boxshipd.execs.service import Execs
from boxshipd.files.service import Files
from boxshipd.filters import Filters
from boxshipd.health.checks import HealthChecks
from boxshipd.health.on_failure import FailureActions
from boxshipd.images.service import Images, ImageUse
from boxshipd.logs.options import LogSource
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.service import Networks
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Job, Scheduler
from boxshipd.scheduler.timers import Timers
from boxshipd.state.store import Store
from boxshipd.volumes.service import Volumes

__all__ = ["AttachOptions", "AttachSlot", "Containers", "LogSource"]

log = logging.getLogger(__name__)

_DRAIN = 10.0
"""Seconds jobs under way get when the daemon ends."""


class Containers:
    """Every operation on containers. ``ref`` is a full id, a unique beginning of one, or a name (with or without ``/``).

    Open it before the first request: ``open`` loads the records and connects to the runtime.
    """

    def __init__(
        self,
        *,
        store: Store,
        events: Events,
        images: Images,
        volumes: Volumes,
        runtime: RuntimeLink,
        scheduler: Scheduler,
        settings: Settings,
        networks: Networks,
        kernel: NetworkKernel,
        policy: Policy,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._events = events
        self._scheduler = scheduler
        self._directories = Directories(settings.data_root)
        self._registry = Registry(store, self._directories.root)
        self._timers = Timers()
        self._networks = networks
        self._networking = ContainerNetworking(
            registry=self._registry, networks=networks, kernel=kernel, settings=lambda: self._settings
        )
        self.transients = Transients(
            runtime=runtime, networking=self._networking, find=self._registry.find, settings=lambda: self._settings
        )
        """Containers without a record: what runs builds' commands."""
        self._unlinking = Unlinking(self._registry, self._networking.links, scheduler)
        self.execs = Execs(self._registry, events, runtime, settings, linked=self._networking.links.environment)
        """Further programs in containers."""
        self._exits = Exits(self._registry, events, runtime, self._timers)
        self._pausing = Pausing(self._registry, events, runtime, scheduler)
        self._updating = Updating(self._registry, events, runtime, scheduler)
        self._collector = Collector(runtime)
        self._top = Top(events, runtime)
        self.files = Files(
            registry=self._registry,
            images=images,
            events=events,
            runtime=runtime,
            scheduler=scheduler,
            pausing=self._pausing,
            settings=lambda: self._settings,
        )
        self._lifecycle = Lifecycle(
            registry=self._registry,
            exits=self._exits,
            events=events,
            runtime=runtime,
            scheduler=scheduler,
            settings=settings,
            pausing=self._pausing,
            uses=self.files.uses,
            networking=self._networking,
        )
        self._removal = Removal(
            registry=self._registry,
            directories=self._directories,
            lifecycle=self._lifecycle,
            exits=self._exits,
            events=events,
            scheduler=scheduler,
            timers=self._timers,
            volumes=volumes,
            uses=self.files.uses,
            networking=self._networking,
        )
        self._reconciliation = Reconciliation(
            registry=self._registry,
            lifecycle=self._lifecycle,
            exits=self._exits,
            events=events,
            runtime=runtime,
            timers=self._timers,
            transients=self.transients,
        )
        found = ContainerVolumes(self._registry, images, volumes, runtime, settings.data_root)
        volumes.uses = partial(volume_uses, self._registry)
        self._creator = Creator(
            registry=self._registry,
            directories=self._directories,
            images=images,
            volumes=found,
            events=events,
            runtime=runtime,
            settings=settings,
            networks=networks,
            links=self._networking.links,
        )
        self._attachment = Attachment(self._registry, networks, Joining(networks, kernel, self._networking), scheduler)
        self._restoration = Restoration(
            registry=self._registry,
            networks=networks,
            kernel=kernel,
            networking=self._networking,
            scheduler=scheduler,
            policy=policy,
            transient=self.transients.has,
        )
        runtime.observe(self._restoration.heard)
        networks.name_of = self._name_of
        self._listing = Listing(self._registry, images, networks)
        self._health = HealthChecks(self._registry, events, runtime, settings)
        self._health.unhealthy = FailureActions(self._registry, events, runtime, self._lifecycle, scheduler).unhealthy
        self._exits.began, self._exits.ended = self._health.began, self._health.ended
        self._exits.left = self._networking.left
        self._exits.start_again = self._lifecycle.start_again
        self._exits.remove = self._removal.remove_ended
        self._reconciliation.limit_again = self._updating.limit_again

    async def open(self) -> None:
        """Load the records, sweep what has none, connect to the runtime and bring both to say the same.

        Raises:
            Unavailable: no supervisor can be reached or started.
        """
        await self._registry.load()
        self._restoration.take_up()
        for stranger in self._directories.sweep({container.id for container in self._registry}):
            log.info("removed what was left of container %s, whose creation or removal was interrupted", stranger)
        self.transients.open()
        self._runtime.handlers(self._reconciliation.listing, self._reconciliation.event)
        self.execs.open()
        await self._runtime.open()
        await self.files.recover()
        self._health.open()

    def reconfigure(self, settings: Settings) -> None:
        """Take over settings that changed while the daemon runs; paths count from its next start."""
        self._settings = settings
        self._lifecycle.settings = settings
        self.execs.settings = settings
        self._health.settings = settings
        self._creator.settings = settings

    async def close(self) -> None:
        """Drain: finish jobs, call timers off. Containers go on, or are stopped where live-restore is off."""
        self._exits.draining = True
        self._timers.close()
        self._collector.close()
        if not self._settings.live_restore:
            await self._lifecycle.stop_all(self._settings.shutdown_timeout)
        await self._scheduler.close(_DRAIN)
        await self.files.close()
        await self._exits.settle()
        await self.transients.close()
        await self._networking.settle()
        await self._restoration.close()
        await self.execs.close()
        await self._health.close()
        await self._runtime.close()
        self._directories.close()

    async def shutdown_everything(self) -> None:
        """Stop every container, then end the supervisor and its zygote (``boxship system shutdown``). ``close`` comes after.

        Raises:
            Conflict: a container could not be stopped.
        """
        self._exits.draining = True
        self._timers.close()
        await self._lifecycle.stop_all(self._settings.shutdown_timeout)
        await self.files.uses.close()
        await self._exits.settle()
        await self._health.close()
        parents = {self._settings.cgroup_parent, *(c.config.host_config.cgroup_parent for c in self._registry)} - {""}
        await self._runtime.shutdown(kill=True, cgroup_parents=[f"/{parent.strip('/')}" for parent in parents])
        self.execs.remove()

    async def create(self, name: str, request: CreateRequest, platform: str = "") -> CreateResponse:
        """Create a container; an empty ``name`` gets one made up.

        Raises:
            NotFound: no such image, network or container.
            Conflict: the name is in use.
            InvalidParameter, NotImplementedHere: the configuration can't be, or not here.
        """
        # It has no name to be ordered by yet, so it is a job for its limit and the listing.
        return await self._scheduler.run("create", "", lambda _: self._creator.create(name, request, platform))

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
        await self._health.current(container)
        await log_drops.refresh(container, self._runtime)
        return inspect(container, self._registry, self._networks, await self._listing.sizes(container) if size else None)

    async def remove(self, ref: str, volumes: bool = False, force: bool = False, link: bool = False) -> None:
        """Remove it, killing it first where ``force``. ``volumes`` takes its anonymous volumes with it.

        ``link``: remove nothing but the link ``container/alias``.

        Raises:
            NotFound: there is no such container.
            Conflict: it runs and not ``force``, or is being removed already.
        """
        if link:
            await self._unlinking.unlink(ref)
            return
        container = self._registry.find(ref)
        await self._removal.remove(container, ref, force=force, volumes=volumes)

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

    async def connect(self, ref: str, network: str, settings: EndpointSettings | None) -> None:
        """Put it on a network, running or not.

        Raises:
            NotFound, InvalidParameter, Conflict, Forbidden, InternalError
        """
        await self._attachment.connect(ref, network, settings)

    async def disconnect(self, ref: str, network: str, *, force: bool) -> None:
        """Take it off a network, running or not.

        Raises:
            NotFound, InvalidParameter, Conflict, InternalError
        """
        await self._attachment.disconnect(ref, network, force=force)

    def _name_of(self, container_id: str) -> str:
        container = self._registry.get(container_id)
        return container.name if container is not None else ""

    async def prune(self, filters: Filters) -> PruneResponse:
        """Remove every container that doesn't run and that the filters (``until``, ``label``, ``label!``) select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
        """
        return await self._removal.prune(filters)

    async def pause(self, ref: str) -> None:
        """Stop all its processes.

        Raises:
            NotFound, InternalError
            Conflict: it doesn't run, or is paused already.
        """
        await self._pausing.pause(self._registry.find(ref))

    async def unpause(self, ref: str) -> None:
        """Let its processes run again.

        Raises:
            NotFound, InternalError
            Conflict: it isn't paused.
        """
        await self._pausing.unpause(self._registry.find(ref))

    async def update(self, ref: str, changes: UpdateRequest) -> UpdateResponse:
        """Give it other limits or another restart policy, running or not; all of them or none.

        Raises:
            NotFound, InvalidParameter, Conflict, InternalError
        """
        return await self._updating.update(self._registry.find(ref), changes)

    def stats(self, ref: str) -> Follower:
        """Samples of its resource usage, one a second, until it is removed. ``close`` the result in the end.

        Raises:
            NotFound: there is no such container.
        """
        return self._collector.follow(self._registry.find(ref))

    async def stats_once(self, ref: str, *, primed: bool) -> StatsResponse:
        """One sample; ``primed`` waits for a second one, so that it has the processor time of the one before.

        Raises:
            NotFound, Unavailable, InternalError
        """
        return await self._collector.single(self._registry.find(ref), primed=primed)

    async def top(self, ref: str, arguments: str) -> TopResponse:
        """Its processes as ps(1) shows them with these arguments.

        Raises:
            NotFound, Conflict, InvalidParameter, InternalError
        """
        return await self._top.list(self._registry.find(ref), arguments)

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set its terminal's size in characters.

        Raises:
            NotFound: there is no such container.
            Conflict: it doesn't run.
        """
        container = self._registry.find(ref)
        if not container.state.running or container.state.restarting:
            raise Conflict(f"container {container.id} is not running")
        await self._runtime.resize(container.id, height, width)
        size = {"height": str(height), "width": str(width)}
        self._events.publish("container", "resize", container.id, container.attributes(size))

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
        return AttachSlot(self._registry.find(ref), options, framing, self._runtime, self._events)

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
            for id_, (name, image) in self._creator.creating.items()
            if image == image_id
        ]

    async def settle(self) -> None:
        """Wait until all ends are recorded and released, and what was removed is deleted."""
        await self._exits.settle()
        await self._directories.settle()

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
        return await self._listing.rows(every=all, limit=limit, size=size, filters=filters or Filters())
