"""``network connect`` and ``disconnect``.

Source: moby daemon/container_operations.go (ConnectToNetwork, DisconnectFromNetwork).
"""

from __future__ import annotations

from boxship.types.networks import EndpointSettings
from msgspec.structs import replace

from boxshipd.containers.model import Config, Container
from boxshipd.containers.networking.config import configured, endpoints_of, with_endpoint, without_endpoint
from boxshipd.containers.networking.joining import Joining
from boxshipd.containers.registry import Registry
from boxshipd.errors import Conflict, DaemonError, Forbidden, NotFound
from boxshipd.networks.model import Network
from boxshipd.networks.service import Networks
from boxshipd.scheduler.jobs import Job, Scheduler


class Attachment:
    """Puts containers on networks and takes them off, on record and, while they run, in fact."""

    def __init__(self, registry: Registry, networks: Networks, joining: Joining, scheduler: Scheduler) -> None:
        self._registry = registry
        self._networks = networks
        self._joining = joining
        self._scheduler = scheduler

    async def connect(self, ref: str, network_ref: str, settings: EndpointSettings | None) -> None:
        """Put a container on a network.

        Raises:
            NotFound: there is no such container or network.
            Forbidden: it is on it already, or the network is only a template for others.
            Conflict: it is being removed.
            DaemonError: as settings, addresses and the runtime have it.
        """
        network = self._networks.find(network_ref)
        container = self._registry.find(ref)
        if network.config_only:
            raise Forbidden(f"cannot create endpoint on configuration-only network {network.name}")
        wish = configured(settings)

        async def work(_: Job) -> None:
            self._check(container, ref)
            host, before = container.config.host_config, container.config.networking
            running = container.state.running and not container.state.restarting
            if running and network.name in endpoints_of(host, before):
                raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
            networking = with_endpoint(host, before, network, wish)
            if not running or not network.real:
                await self._record(container, replace(container.config, networking=networking))
                return
            tell = await self._joining.join(container, network, wish)
            try:
                await self._record(container, replace(container.config, networking=networking))
            except DaemonError:
                await self._joining.part(container, network)
                raise
            tell()

        await self._scheduler.run("connect", container.id, work)

    async def disconnect(self, ref: str, network_ref: str, *, force: bool) -> None:
        """Take a container off a network.

        Args:
            ref: the container.
            network_ref: the network.
            force: one of them not being there is fine where the other knows of it.

        Raises:
            NotFound: there is no such container or network.
            Conflict: it isn't on it, or is being removed.
            DaemonError: as the runtime has it.
        """
        network = self._find(network_ref, force=force)
        container = self._registry.find(ref)

        async def work(_: Job) -> None:
            self._check(container, ref)
            config, name = container.config, network.name if network is not None else network_ref
            networking = without_endpoint(config.host_config, config.networking, name, container.id)
            if network is not None and any(lease.network == network.id for lease in container.state.leases):
                await self._joining.part(container, network)
            await self._record(container, replace(config, networking=networking))

        await self._scheduler.run("connect", container.id, work)

    def _find(self, ref: str, *, force: bool) -> Network | None:
        try:
            return self._networks.find(ref)
        except NotFound:
            if force:
                return None
            raise

    @staticmethod
    def _check(container: Container, ref: str) -> None:
        if container.removed:
            raise NotFound(f"No such container: {ref}")
        if container.state.removing or container.state.dead:
            raise Conflict(
                f"Container {container.id} is marked for removal and cannot be connected or disconnected to the network"
            )

    async def _record(self, container: Container, config: Config) -> None:
        await self._registry.reconfigure(container, config)
