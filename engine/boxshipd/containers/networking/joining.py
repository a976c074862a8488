"""Joining a network and leaving one while a container runs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from boxrun.network import contract
from boxship.types.networks import EndpointSettings
from msgspec.structs import replace

from boxshipd.containers.model import Container
from boxshipd.containers.networking import name_files
from boxshipd.containers.networking.config import dns_names
from boxshipd.containers.networking.plugging import ContainerNetworking, endpoint_of
from boxshipd.errors import DaemonError, NotFound
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.leases import Wish
from boxshipd.networks.model import Lease, Network
from boxshipd.networks.service import Networks
from boxshipd.runtime.errors import NetworkFailed

log = logging.getLogger(__name__)


class Joining:
    """Plugs further networks into running containers, and takes them out."""

    def __init__(self, networks: Networks, kernel: NetworkKernel, networking: ContainerNetworking) -> None:
        self._networks = networks
        self._kernel = kernel
        self._networking = networking

    async def join(self, container: Container, network: Network, settings: EndpointSettings) -> Callable[[], None]:
        """Plug a running container into a further network; the result tells everybody, once it is recorded.

        Raises:
            DaemonError: it can't be.
        """
        state, leases = container.state, self._networks.leases
        await self._kernel.need(network)
        (lease,) = leases.take(container.id, container.name, [Wish(network, settings)], state.leases)
        before = self._here(container)
        known = name_files.host_resolver()
        resolver = self._networking.resolver(container, [*before, (network, settings)], known)
        try:
            lease = await self._plug(container, network, settings, lease, resolver)
        except BaseException:
            leases.leave(container.id, lease)
            leases.free([lease], ())
            raise
        leases.replace(container.id, lease)
        state.leases = (*state.leases, lease)
        self._change_hosts(container, [], [lease])
        if resolver is not None and self._networking.resolver(container, before, known) is None:
            self._ask_embedded(container, known)
        try:
            await self._move_ports(container, network, settings)
        except BaseException:
            await self.part(container, network)
            raise
        return lambda: self._networks.tell("connect", network, container.id)

    def _here(self, container: Container) -> list[tuple[Network, EndpointSettings]]:
        """The networks that a running container is on by now."""
        held = {lease.network for lease in container.state.leases}
        return [(network, wish) for network, wish in self._networking.wanted(container) if network.id in held]

    def _ask_embedded(self, container: Container, known: name_files.HostResolver) -> None:
        try:
            self._networking.ask_embedded(container, known)
        except OSError as error:
            log.warning("change /etc/resolv.conf of container %s: %s", container.id, error)

    async def _plug(
        self,
        container: Container,
        network: Network,
        settings: EndpointSettings,
        lease: Lease,
        resolver: contract.Resolver | None,
    ) -> Lease:
        named = [] if network.default else [self._named_change(container, network, settings, lease)]
        await self._networking.tell_names(named)
        request = contract.ConnectRequest(container=container.id, endpoint=endpoint_of(lease, settings), resolver=resolver)
        try:
            reply = await self._kernel.connect(request)
        except DaemonError as error:
            await self._networking.tell_names(self._networking.gone([lease]))
            if isinstance(error, NetworkFailed):
                raise self._networking.refusal(container, error) from error
            raise
        for item in reply.endpoints:
            lease = replace(lease, mac=item.mac, interface=item.interface)
        return lease

    def _named_change(
        self, container: Container, network: Network, settings: EndpointSettings, lease: Lease
    ) -> contract.NamesChange:
        names = dns_names(container.name, container.id, container.config.config, settings)
        record = contract.Record(endpoint=lease.endpoint, name=container.name, names=tuple(names), addresses=lease.addresses)
        return contract.NamesChange(network=network.id, records=(record,))

    async def part(self, container: Container, network: Network) -> None:
        """Take a running container off a network.

        Raises:
            NotFound: it isn't on it.
            DaemonError: it can't be.
        """
        state, leases = container.state, self._networks.leases
        lease = next((lease for lease in state.leases if lease.network == network.id), None)
        if lease is None:
            raise NotFound(f"container {container.id} is not connected to network {network.name}")
        others = [(other, wish) for other, wish in self._here(container) if other.id != network.id]
        resolver = self._networking.resolver(container, others, name_files.host_resolver())
        await self._kernel.disconnect(container.id, lease.endpoint, resolver)
        state.leases = tuple(other for other in state.leases if other is not lease)
        leases.leave(container.id, lease)
        leases.free([lease], ())
        self._change_hosts(container, [lease], [])
        await self._networking.tell_names(self._networking.gone([lease]))
        await self._move_ports(container, None, None)
        self._networks.tell("disconnect", network, container.id)

    async def _move_ports(self, container: Container, network: Network | None, settings: EndpointSettings | None) -> None:
        """Another endpoint may have the default route now: ports lead there, and are published if they weren't."""
        wanted = self._networking.wanted(container)
        if network is not None and settings is not None and network not in [item for item, _ in wanted]:
            wanted.append((network, settings))
        held = {lease.network for lease in container.state.leases}
        wanted = [(item, wish) for item, wish in wanted if item.id in held]
        state, places = container.state, self._networking.places(wanted, container.state.leases)
        kept = tuple(item for item in state.published if places.of(item.host_ip) is not None)
        self._networks.leases.ports.release([item for item in state.published if item not in kept])
        state.published = kept
        if not kept:
            state.published = self._networking.publish(container, wanted)
        if not state.published:
            return
        await self._kernel.publish(container.id, self._networking.ports(state.published, places))

    def _change_hosts(self, container: Container, gone: list[Lease], come: list[Lease]) -> None:
        config = container.config.config
        try:
            name_files.change_hosts(container.directory, name_files.own_lines(config, gone), name_files.own_lines(config, come))
        except OSError as error:
            log.warning("change /etc/hosts of container %s: %s", container.id, error)
