"""What running containers hold of networks: addresses, interfaces, host ports.

In memory, and always what the containers' states say: a lease is taken before a start, on record with the container's state
once it runs, and given back when its run is over.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from ipaddress import ip_interface, ip_network

from boxship.types.networks import EndpointSettings
from msgspec import Struct
from msgspec.structs import replace

from boxshipd.errors import DaemonError, Forbidden, NotFound
from boxshipd.networks import options
from boxshipd.networks.ipam import Addresses
from boxshipd.networks.model import Lease, Network, Published
from boxshipd.networks.ports import HostPorts


class Wish(Struct, frozen=True):
    """A container's wish to be on a network; ``last`` is what it had there before."""

    network: Network
    settings: EndpointSettings
    last: Lease | None = None


class Leases:
    """Everything that containers hold. One per daemon; nothing here waits."""

    def __init__(self) -> None:
        self.ports = HostPorts()
        self._addresses: dict[str, Addresses] = {}
        self._members: dict[str, dict[str, Lease]] = {}

    def add(self, network: Network) -> None:
        """A network that can be leased of from now on."""
        self._addresses[network.id] = Addresses(network)
        self._members[network.id] = {}

    def drop(self, network: Network) -> None:
        """A network that goes; nobody is on it."""
        self._addresses.pop(network.id, None)
        self._members.pop(network.id, None)

    def members(self, network: Network) -> dict[str, Lease]:
        """Who is on a network, by container id."""
        return self._members.get(network.id, {})

    def take(self, container: str, name: str, wishes: Sequence[Wish], held: Iterable[Lease] = ()) -> list[Lease]:
        """Lease places on networks: all or none.

        Args:
            container: its id.
            name: its name, for errors.
            wishes: in the order of its interfaces.
            held: leases it has already, whose interfaces' names are taken.

        Raises:
            NotFound: a network has gone meanwhile.
            Forbidden: it is on one of the networks already, or an address is in use.
            InvalidParameter, Unavailable: as the network's addresses have it.
        """
        taken: list[Lease] = []
        names = {lease.interface for lease in held}
        names |= {wish.settings.driver_opts.get(options.ENDPOINT_IFNAME, "") for wish in wishes if wish.settings.driver_opts}
        try:
            for wish in wishes:
                if wish.network.id not in self._members:
                    raise NotFound(f"network {wish.network.name} not found")
                if container in self._members[wish.network.id]:
                    raise Forbidden(f"endpoint with name {name} already exists in network {wish.network.name}")
                lease = self._one(wish, names)
                names.add(lease.interface)
                self._members[wish.network.id][container] = lease
                taken.append(lease)
        except DaemonError:
            for lease in taken:
                self.leave(container, lease)
            self.free(taken, ())
            raise
        return taken

    def leave(self, container: str, lease: Lease) -> None:
        """A container is on a network no more; its addresses are its own until they are freed."""
        members = self._members.get(lease.network)
        if members is not None and (held := members.get(container)) is not None and held.endpoint == lease.endpoint:
            del members[container]

    def free(self, leases: Iterable[Lease], ports: Iterable[Published]) -> None:
        """Let others have addresses and ports."""
        for lease in leases:
            addresses = self._addresses.get(lease.network)
            for address in (lease.ipv4, lease.ipv6) if addresses is not None else ():
                if address and addresses is not None:
                    addresses.release(address)
        self.ports.release(ports)

    def hold(self, container: str, leases: Iterable[Lease], ports: Iterable[Published]) -> None:
        """Take up what a container is known to hold, be it on record or by the runtime's word."""
        for lease in leases:
            members = self._members.get(lease.network)
            if members is None or container in members:
                continue
            members[container] = lease
            for address in (lease.ipv4, lease.ipv6):
                if address:
                    self._addresses[lease.network].hold(address)
        for port in ports:
            self.ports.hold(port)

    def replace(self, container: str, lease: Lease) -> None:
        """A lease with what the runtime added to it, as its interface's MAC address."""
        members = self._members.get(lease.network)
        if members is not None and container in members:
            members[container] = lease

    def _one(self, wish: Wish, names: set[str]) -> Lease:
        network, settings, last = wish.network, wish.settings, wish.last
        addresses = self._addresses[network.id]
        ipam = settings.ipam_config
        wanted4 = ipam.ipv4_address if ipam is not None and isinstance(ipam.ipv4_address, str) else ""
        wanted6 = ipam.ipv6_address if ipam is not None and isinstance(ipam.ipv6_address, str) else ""
        ipv4 = addresses.allocate(4, wanted4, _bare(last.ipv4) if last else "")
        try:
            ipv6 = addresses.allocate(6, wanted6, _bare(last.ipv6) if last else "")
        except DaemonError:
            if ipv4:
                addresses.release(ipv4)
            raise
        lease = Lease(
            network=network.id,
            endpoint=secrets.token_hex(32),
            interface=_interface(network, settings, names),
            ipv4=ipv4,
            ipv6=ipv6,
            mac=settings.mac_address,
        )
        return _with_gateways(lease, network)


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _interface(network: Network, settings: EndpointSettings, names: set[str]) -> str:
    """The name it asks for, or the first free number behind the network's prefix."""
    asked = (settings.driver_opts or {}).get(options.ENDPOINT_IFNAME, "")
    if asked:
        return asked
    prefix = network.options.get(options.PREFIX, "eth")
    number = 0
    while f"{prefix}{number}" in names:
        number += 1
    return f"{prefix}{number}"


def _with_gateways(lease: Lease, network: Network) -> Lease:
    """Its gateways, those of the subnets that its addresses are in; an internal network leads nowhere."""
    if network.internal:
        return lease
    found = {"gateway4": "", "gateway6": ""}
    for version, address in ((4, lease.ipv4), (6, lease.ipv6)):
        for subnet in network.subnets:
            if address and subnet.version == version and _inside(address, subnet.pool):
                router = subnet.aux.get(f"DefaultGatewayIPv{version}", "") if network.default else ""
                found[f"gateway{version}"] = router or subnet.gateway
    return replace(lease, **found)


def _inside(address: str, pool: str) -> bool:
    return ip_interface(address).ip in ip_network(pool)
