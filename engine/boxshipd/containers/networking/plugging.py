"""Containers on their networks: what a start leases and the runtime plugs, what becomes of it, joining and leaving.

A lease is taken before the runtime is asked, recorded with the container's state, and given back when the runtime has let go of
the sandbox. A container that is restarted keeps what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from boxrun.network import contract
from boxship.types.networks import EndpointSettings
from msgspec.structs import replace

from boxshipd.containers.host_files import write_file
from boxshipd.containers.model import Container
from boxshipd.containers.networking import name_files, publishing
from boxshipd.containers.networking.config import dns_names, endpoints_of
from boxshipd.containers.networking.links import Links, names_of
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.errors import DaemonError, Forbidden, InternalError, InvalidParameter
from boxshipd.networks import options
from boxshipd.networks.kernel import NetworkKernel, endpoint
from boxshipd.networks.leases import Wish
from boxshipd.networks.model import BRIDGE, Lease, Network, Published
from boxshipd.networks.ports import join
from boxshipd.networks.service import Networks
from boxshipd.runtime.errors import NetworkFailed

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that the runtime gets to let sandboxes go when the daemon ends; it does so without being asked, too."""
_SETUP = "failed to set up container networking"


class ContainerNetworking:
    """Plugs containers in and lets them go."""

    def __init__(
        self, *, registry: Registry, networks: Networks, kernel: NetworkKernel, settings: Callable[[], Settings]
    ) -> None:
        self._registry = registry
        self._networks = networks
        self._kernel = kernel
        self._settings = settings
        self.links = Links(registry, networks)
        """Other containers by names that one alone knows."""
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._avoid: dict[str, frozenset[int]] = {}

    # A start

    async def plug(self, container: Container) -> contract.PlugRequest | None:
        """Lease what a container is to have, and say what the runtime is to plug; None where it is on no network of ours.

        Raises:
            NotFound: one of its networks has gone.
            DaemonError: an address or a port can't be had, or this machine can't have such networks.
        """
        settings = self.wanted(container)
        if not settings:
            await self._give_back(container)
            return None
        leaving = self._leaving.get(container.id)
        if leaving is not None:
            await asyncio.wait([leaving])
        for network, _ in settings:
            await self._kernel.need(network)
        try:
            await self._lease(container, settings)
        except DaemonError:
            if not self._leaving:
                raise
            # What is in the way may belong to a container that has just ended.
            await asyncio.wait(list(self._leaving.values()))
            await self._lease(container, settings)
        try:
            known = name_files.host_resolver()
            self._write_files(container, settings, known)
            await self.tell_names([self._change(container, network, lease) for network, lease in self._named(container)])
        except BaseException:
            await self.unplugged(container)
            raise
        return self._request(container, settings, known)

    def wanted(self, container: Container) -> list[tuple[Network, EndpointSettings]]:
        """The networks it is to have an interface of, in order.

        Raises:
            NotFound: one has gone.
            Forbidden: one is only a template for others.
            InternalError: the default bridge can't be had.
        """
        host = container.config.host_config
        found = []
        for name, settings in endpoints_of(host, container.config.networking).items():
            if name == BRIDGE and self._networks.of_mode(BRIDGE) is None:
                if self._networks.bridge_problem:
                    raise InternalError(f"{_SETUP}: {self._networks.bridge_problem}")
                continue
            network = self._networks.find(name)
            if network.config_only:
                raise Forbidden(f"{_SETUP}: cannot create endpoint on configuration-only network {network.name}")
            if network.real:
                found.append((network, settings))
        return found

    async def _lease(self, container: Container, settings: list[tuple[Network, EndpointSettings]]) -> None:
        state, leases = container.state, self._networks.leases
        if [lease.network for lease in state.leases] != [network.id for network, _ in settings]:
            await self._give_back(container)
            last = {lease.network: lease for lease in state.last_leases}
            wishes = [Wish(network, wish, last.get(network.id)) for network, wish in settings]
            state.leases = tuple(leases.take(container.id, container.name, wishes))
            state.last_leases = ()
        if not state.published:
            try:
                state.published = self.publish(container, settings)
            except DaemonError:
                await self._give_back(container)
                raise

    def publish(self, container: Container, settings: list[tuple[Network, EndpointSettings]]) -> tuple[Published, ...]:
        """Take the host's ports for what it holds.

        Raises:
            InternalError: one is taken, with Docker's message.
        """
        places = self.places(settings, container.state.leases)
        avoid = self._avoid.get(container.id, frozenset())
        try:
            return publishing.allocate(container.config, places, self._networks.leases.ports, avoid)
        except InternalError as error:
            main = places.v4 or places.v6
            raise InternalError(self._port_failure(container, main.endpoint if main else "", str(error))) from error

    def places(self, settings: Sequence[tuple[Network, EndpointSettings]], leases: Sequence[Lease]) -> publishing.Places:
        """The endpoints that ports lead to."""
        return publishing.places(settings, leases, relay=self._networks.settings.userland_proxy)

    @staticmethod
    def _port_failure(container: Container, endpoint_id: str, text: str) -> str:
        return f"{_SETUP}: driver failed programming external connectivity on endpoint {container.name} ({endpoint_id}): {text}"

    def _request(
        self, container: Container, settings: list[tuple[Network, EndpointSettings]], known: name_files.HostResolver
    ) -> contract.PlugRequest:
        state = container.state
        wanted = {network.id: wish for network, wish in settings}
        return contract.PlugRequest(
            container=container.id,
            endpoints=tuple(endpoint_of(lease, wanted[lease.network]) for lease in state.leases),
            ports=self.ports(state.published, self.places(settings, state.leases)),
            ways=self.links.ways(container),
            resolver=self.resolver(container, settings, known),
        )

    @staticmethod
    def ports(published: Iterable[Published], places: publishing.Places) -> tuple[contract.Port, ...]:
        """Published ports in the runtime's terms."""
        return tuple(publishing.port(item, places) for item in published)

    def resolver(
        self, container: Container, settings: list[tuple[Network, EndpointSettings]], known: name_files.HostResolver
    ) -> contract.Resolver | None:
        """How a container's names are resolved on these networks; None where it asks servers itself."""
        wanted = name_files.resolver_of(container.config.host_config, self._settings(), known)
        if not _embedded(settings, wanted):
            return None
        return contract.Resolver(
            servers=wanted.servers,
            forward=any(not network.internal for network, _ in settings),
            links=self.links.of_endpoints(container, settings),
        )

    def _write_files(
        self, container: Container, settings: list[tuple[Network, EndpointSettings]], known: name_files.HostResolver
    ) -> None:
        host, config = container.config.host_config, container.config.config
        wanted = name_files.resolver_of(host, self._settings(), known)
        embedded = _embedded(settings, wanted)
        if not embedded:
            wanted = name_files.HostResolver(name_files.reachable(wanted.servers), wanted.search, wanted.options)
        own = name_files.own_lines(config, container.state.leases, self.links.of_bridge(container))
        try:
            name_files.write(
                container.directory,
                hosts_text=name_files.hosts(host, self._gateways(container), own),
                resolv_text=name_files.resolv_conf(wanted, embedded=embedded),
            )
        except OSError as error:
            raise InternalError(f"start container {container.id}: write its hosts file: {error.strerror or error}") from error

    def ask_embedded(self, container: Container, known: name_files.HostResolver) -> None:
        """Have a running container ask the embedded server from now on. Raises OSError."""
        wanted = name_files.resolver_of(container.config.host_config, self._settings(), known)
        write_file(f"{container.directory}/resolv.conf", name_files.resolv_conf(wanted, embedded=True))

    def _gateways(self, container: Container) -> list[str]:
        """What ``host-gateway`` means."""
        if not any(entry.endswith("host-gateway") for entry in container.config.host_config.extra_hosts or ()):
            return []
        if self._networks.settings.host_gateway_ips:
            return list(self._networks.settings.host_gateway_ips)
        bridge = self._networks.of_mode(BRIDGE)
        found = [subnet.gateway for subnet in bridge.subnets if subnet.gateway] if bridge is not None else []
        if not found:
            raise InvalidParameter("unable to derive the IP value for host-gateway")
        return found

    def plugged(self, container: Container, reply: contract.PlugReply | None) -> None:
        """A start has come to something: take in what the runtime chose, and tell everybody."""
        self._avoid.pop(container.id, None)
        state = container.state
        if reply is not None:
            made = {item.endpoint: item for item in reply.endpoints}
            state.leases = tuple(
                replace(lease, mac=made[lease.endpoint].mac, interface=made[lease.endpoint].interface)
                if lease.endpoint in made
                else lease
                for lease in state.leases
            )
        for lease in state.leases:
            self._networks.leases.replace(container.id, lease)
            network = self._networks.get(lease.network)
            if network is not None:
                self._networks.tell("connect", network, container.id)
                if network.default:
                    self._tell_linked(container, lease)

    def _tell_linked(self, container: Container, lease: Lease) -> None:
        """Containers that are linked to this one find it where it is now."""
        for other, alias in self.links.followers(container):
            names = " ".join(names_of(container, alias))
            try:
                name_files.change_hosts(other.directory, (), [f"{a}\t{names}\n" for a in lease.addresses], names)
            except OSError as error:
                log.warning("change /etc/hosts of container %s: %s", other.id, error)

    def other_ports(self, container: Container, error: NetworkFailed) -> bool:
        """Whether a start that failed for a port of the host's should be tried again with others, for it named none."""
        failed = error.failure.port
        if error.failure.kind != "port" or failed is None:
            return False
        if not publishing.flexible(container.config, failed):
            return False
        avoid = self._avoid.get(container.id, frozenset())
        self._avoid[container.id] = avoid | {failed.host_port}
        self._networks.leases.ports.release(container.state.published)
        container.state.published = ()
        return len(avoid) < publishing.ATTEMPTS

    def refusal(self, container: Container, error: NetworkFailed) -> DaemonError:
        """A failure of the runtime's in Docker's words."""
        failed = error.failure.port
        if error.failure.kind == "port" and failed is not None:
            ends = {lease.endpoint: lease for lease in container.state.leases}
            lease = ends.get(failed.endpoint)
            inside = ""
            if lease is not None:
                own, other = (lease.ipv6, lease.ipv4) if ":" in failed.host_address else (lease.ipv4, lease.ipv6)
                address = own or other
                inside = ":" + join(address.partition("/")[0], failed.container_port)
            outside = join(failed.host_address, failed.host_port)
            text = f"failed to bind host port {outside}{inside}/{failed.protocol}: address already in use"
            return InternalError(self._port_failure(container, failed.endpoint, text))
        return InternalError(f"{_SETUP}: {error.failure.message}")

    # An end

    def left(self, container: Container) -> None:
        """A run is over. Who is about to run again keeps what he has."""
        state = container.state
        for lease in state.leases:
            network = self._networks.get(lease.network)
            if network is not None:
                self._networks.tell("disconnect", network, container.id)
        if state.leases and not (state.restarting or container.goes_on):
            self._let_go(container)

    async def unplugged(self, container: Container) -> None:
        """A start has come to nothing, or there won't be another."""
        self._avoid.pop(container.id, None)
        if container.state.leases or container.state.published:
            self._let_go(container)

    def _let_go(self, container: Container) -> None:
        state = container.state
        leases, published = state.leases, state.published
        state.leases, state.published, state.last_leases = (), (), leases
        gone = self.gone(leases)
        for lease in leases:
            self._networks.leases.leave(container.id, lease)
        before = self._leaving.get(container.id)
        task = asyncio.create_task(self._leave(container.id, leases, published, gone, before))
        self._leaving[container.id] = task
        task.add_done_callback(lambda done: self._left(container.id, done))

    def _left(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._leaving.get(container_id) is task:
            del self._leaving[container_id]

    async def _leave(
        self,
        container_id: str,
        leases: tuple[Lease, ...],
        published: tuple[Published, ...],
        gone: list[contract.NamesChange],
        before: asyncio.Task[None] | None,
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        try:
            await self._kernel.unplug(container_id)
            await self.tell_names(gone)
        except DaemonError as error:
            # The sandbox goes with the container in any case, and whatever is left at the next connection.
            log.debug("unplug container %s: %s", container_id, error)
        finally:
            self._networks.leases.free(leases, published)

    async def _give_back(self, container: Container) -> None:
        """Free what it holds, before it leases anew; the runtime has nothing plugged, or replaces it."""
        state = container.state
        for lease in state.leases:
            self._networks.leases.leave(container.id, lease)
        self._networks.leases.free(state.leases, state.published)
        if state.leases:
            state.last_leases = state.leases
        state.leases, state.published = (), ()

    async def settle(self) -> None:
        """Wait until everything that has ended so far is let go of."""
        while self._leaving:
            _, late = await asyncio.wait(list(self._leaving.values()), timeout=_PATIENCE)
            for task in late:
                task.cancel()

    # Names

    def _named(self, container: Container) -> list[tuple[Network, Lease]]:
        """The networks on which it is known by name."""
        found = []
        for lease in container.state.leases:
            network = self._networks.get(lease.network)
            if network is not None and not network.default:
                found.append((network, lease))
        return found

    def record(self, container: Container, network: Network, lease: Lease) -> contract.Record:
        """What a container is called on a network."""
        settings = endpoints_of(container.config.host_config, container.config.networking).get(network.name, EndpointSettings())
        return contract.Record(
            endpoint=lease.endpoint,
            name=container.name,
            names=tuple(dns_names(container.name, container.id, container.config.config, settings)),
            addresses=lease.addresses,
        )

    def _change(self, container: Container, network: Network, lease: Lease) -> contract.NamesChange:
        return contract.NamesChange(network=network.id, records=(self.record(container, network, lease),))

    def gone(self, leases: Iterable[Lease]) -> list[contract.NamesChange]:
        """What networks are to forget when these leases end."""
        found = []
        for lease in leases:
            network = self._networks.get(lease.network)
            if network is not None and not network.default:
                found.append(contract.NamesChange(network=lease.network, gone=(lease.endpoint,)))
        return found

    async def tell_names(self, changes: list[contract.NamesChange]) -> None:
        """Pass names on, where any have changed."""
        if changes:
            await self._kernel.names(changes)

    async def renamed(self, container: Container) -> None:
        """A running container has another name: it is found by that from now on."""
        try:
            await self.tell_names([self._change(container, network, lease) for network, lease in self._named(container)])
        except DaemonError as error:
            log.warning("rename container %s on its networks: %s", container.id, error)


def _embedded(settings: list[tuple[Network, EndpointSettings]], wanted: name_files.HostResolver) -> bool:
    """Names are for networks that somebody made; on the default bridge, only where nothing else can be asked."""
    if any(not network.default for network, _ in settings):
        return True
    return bool(wanted.servers) and not name_files.reachable(wanted.servers)


def endpoint_of(lease: Lease, settings: EndpointSettings) -> contract.Endpoint:
    """A lease and what was asked for, in the runtime's terms."""
    ipam, given = settings.ipam_config, settings.driver_opts or {}
    links = ipam.link_local_ips if ipam is not None and isinstance(ipam.link_local_ips, list) else []
    sysctls = dict(item.split("=", 1) for item in given.get(options.ENDPOINT_SYSCTLS, "").split(",") if item)
    return endpoint(
        lease,
        priority=settings.gw_priority,
        sysctls={name.replace(".ifname.", ".IFNAME."): value for name, value in sysctls.items()},
        extra=[f"{address}/{64 if ':' in address else 16}" for address in links],
    )
