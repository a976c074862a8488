"""What containers are served with: the parts put together, in which order they open, and in which they end."""

from __future__ import annotations

import logging
from functools import partial

from boxrun.network.contract import Policy

from boxshipd.containers.create import Creator
from boxshipd.containers.directories import Directories
from boxshipd.containers.exits import Exits
from boxshipd.containers.lifecycle import Lifecycle
from boxshipd.containers.listing import Listing
from boxshipd.containers.networking.attachment import Attachment
from boxshipd.containers.networking.joining import Joining
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.networking.restoration import Restoration
from boxshipd.containers.networking.unlinking import Unlinking
from boxshipd.containers.pausing import Pausing
from boxshipd.containers.reconcile import Reconciliation
from boxshipd.containers.registry import Registry
from boxshipd.containers.removal import Removal
from boxshipd.containers.renaming import Renaming
from boxshipd.containers.settings import Settings
from boxshipd.containers.stats import Collector
from boxshipd.containers.top import Top
from boxshipd.containers.transients import Transients
from boxshipd.containers.updating import Updating
from boxshipd.containers.volumes.creation import ContainerVolumes, volume_uses
from boxshipd.events import Events
from boxshipd.execs.service import Execs
from boxshipd.files.service import Files
from boxshipd.health.checks import HealthChecks
from boxshipd.health.on_failure import FailureActions
from boxshipd.images.service import Images
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.service import Networks
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.scheduler.timers import Timers
from boxshipd.state.store import Store
from boxshipd.volumes.service import Volumes

log = logging.getLogger(__name__)

_DRAIN = 10.0
"""Seconds jobs under way get when the daemon ends."""


class ContainerParts:
    """Everything that ``Containers`` asks. ``open`` comes before the first request: it loads the records and connects to the
    runtime.
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
        self.runtime = runtime
        self.events = events
        self.scheduler = scheduler
        self.directories = Directories(settings.data_root)
        self.registry = Registry(store, self.directories.root)
        self.timers = Timers()
        self.networks = networks
        self.networking = ContainerNetworking(
            registry=self.registry, networks=networks, kernel=kernel, settings=lambda: self._settings
        )
        self.transients = Transients(
            runtime=runtime, networking=self.networking, find=self.registry.find, settings=lambda: self._settings
        )
        """Containers without a record: what runs builds' commands."""
        self.unlinking = Unlinking(self.registry, self.networking.links, scheduler)
        self.execs = Execs(self.registry, events, runtime, settings, linked=self.networking.links.environment)
        """Further programs in containers."""
        self.exits = Exits(self.registry, events, runtime, self.timers)
        self.pausing = Pausing(self.registry, events, runtime, scheduler)
        self.updating = Updating(self.registry, events, runtime, scheduler)
        self.renaming = Renaming(self.registry, events, self.networking, scheduler)
        self.collector = Collector(runtime)
        self.top = Top(events, runtime)
        self.files = Files(
            registry=self.registry,
            images=images,
            events=events,
            runtime=runtime,
            scheduler=scheduler,
            pausing=self.pausing,
            settings=lambda: self._settings,
        )
        self.lifecycle = Lifecycle(
            registry=self.registry,
            exits=self.exits,
            events=events,
            runtime=runtime,
            scheduler=scheduler,
            settings=settings,
            pausing=self.pausing,
            uses=self.files.uses,
            networking=self.networking,
        )
        self.removal = Removal(
            registry=self.registry,
            directories=self.directories,
            lifecycle=self.lifecycle,
            exits=self.exits,
            events=events,
            scheduler=scheduler,
            timers=self.timers,
            volumes=volumes,
            uses=self.files.uses,
            networking=self.networking,
        )
        self.reconciliation = Reconciliation(
            registry=self.registry,
            lifecycle=self.lifecycle,
            exits=self.exits,
            events=events,
            runtime=runtime,
            timers=self.timers,
            transients=self.transients,
        )
        found = ContainerVolumes(self.registry, images, volumes, runtime, settings.data_root)
        volumes.uses = partial(volume_uses, self.registry)
        self.creator = Creator(
            registry=self.registry,
            directories=self.directories,
            images=images,
            volumes=found,
            events=events,
            runtime=runtime,
            settings=settings,
            networks=networks,
            links=self.networking.links,
        )
        self.attachment = Attachment(self.registry, networks, Joining(networks, kernel, self.networking), scheduler)
        self.restoration = Restoration(
            registry=self.registry,
            networks=networks,
            kernel=kernel,
            networking=self.networking,
            scheduler=scheduler,
            policy=policy,
            transient=self.transients.has,
        )
        runtime.observe(self.restoration.heard)
        networks.name_of = self._name_of
        self.listing = Listing(self.registry, images, networks)
        self.health = HealthChecks(self.registry, events, runtime, settings)
        self.health.unhealthy = FailureActions(self.registry, events, runtime, self.lifecycle, scheduler).unhealthy
        self.exits.began, self.exits.ended = self.health.began, self.health.ended
        self.exits.left = self.networking.left
        self.exits.start_again = self.lifecycle.start_again
        self.exits.remove = self.removal.remove_ended
        self.reconciliation.limit_again = self.updating.limit_again

    async def open(self) -> None:
        """Load the records, sweep what has none, connect to the runtime and bring both to say the same.

        Raises:
            Unavailable: no supervisor can be reached or started.
        """
        await self.registry.load()
        self.restoration.take_up()
        for stranger in self.directories.sweep({container.id for container in self.registry}):
            log.info("removed what was left of container %s, whose creation or removal was interrupted", stranger)
        self.transients.open()
        self.runtime.handlers(self.reconciliation.listing, self.reconciliation.event)
        self.execs.open()
        await self.runtime.open()
        await self.files.recover()
        self.health.open()

    def reconfigure(self, settings: Settings) -> None:
        """Take over settings that changed while the daemon runs; paths count from its next start."""
        self._settings = settings
        self.lifecycle.settings = settings
        self.execs.settings = settings
        self.health.settings = settings
        self.creator.settings = settings

    async def close(self) -> None:
        """Drain: finish jobs, call timers off. Containers go on, or are stopped where live-restore is off."""
        self.exits.draining = True
        self.timers.close()
        self.collector.close()
        if not self._settings.live_restore:
            await self.lifecycle.stop_all(self._settings.shutdown_timeout)
        await self.scheduler.close(_DRAIN)
        await self.files.close()
        await self.exits.settle()
        await self.transients.close()
        await self.networking.settle()
        await self.restoration.close()
        await self.execs.close()
        await self.health.close()
        await self.runtime.close()
        self.directories.close()

    async def shutdown(self) -> None:
        """Stop every container, then end the supervisor and its zygote (``boxship system shutdown``). ``close`` comes after.

        Raises:
            Conflict: a container could not be stopped.
        """
        self.exits.draining = True
        self.timers.close()
        await self.lifecycle.stop_all(self._settings.shutdown_timeout)
        await self.files.uses.close()
        await self.exits.settle()
        await self.health.close()
        parents = {self._settings.cgroup_parent, *(c.config.host_config.cgroup_parent for c in self.registry)} - {""}
        await self.runtime.shutdown(kill=True, cgroup_parents=[f"/{parent.strip('/')}" for parent in parents])
        self.execs.remove()

    async def settle(self) -> None:
        """Wait until all ends are recorded and released, and what was removed is deleted."""
        await self.exits.settle()
        await self.directories.settle()

    def _name_of(self, container_id: str) -> str:
        container = self.registry.get(container_id)
        return container.name if container is not None else ""
