"""Where a container's published ports lead, and which of the host's they are.

Source: moby libnetwork/drivers/bridge/port_mapping_linux.go, libnetwork/endpoint.go (the gateway endpoint).
"""

from __future__ import annotations

from collections.abc import Sequence

from boxrun.network.contract import Port
from boxship.types.networks import EndpointSettings, PortBinding
from msgspec import Struct

from boxshipd.containers.model import Config
from boxshipd.errors import DaemonError, NotImplementedHere
from boxshipd.networks import options
from boxshipd.networks.model import Lease, Network, Published
from boxshipd.networks.ports import HostPorts, Wanted, exposed_ports, host_has_ipv6, port_map, wanted_ports

ATTEMPTS = 8
"""How many of the host's ports are tried where any would do and programs of the host have them."""


RELAYED = ("tcp", "udp")
"""Protocols that are relayed from one IP version to the other."""


class Places(Struct, frozen=True):
    """The endpoints that ports lead to, by family, and the address of the host that is meant where none is named.

    ``relayed`` says whether an address of the host may lead to one of the other family.
    """

    v4: Lease | None = None
    v6: Lease | None = None
    binding: str = ""
    relayed: bool = False

    def of(self, host_ip: str) -> Lease | None:
        """The endpoint to which an address of the host leads."""
        own, other = (self.v6, self.v4) if ":" in host_ip else (self.v4, self.v6)
        return own or (other if self.relayed else None)


def places(settings: Sequence[tuple[Network, EndpointSettings]], leases: Sequence[Lease], *, relay: bool) -> Places:
    """The endpoints that ports lead to: those with the default routes, if bridges have them.

    ``relay`` says whether that is there which leads from one family to the other.
    """
    held = {lease.network: lease for lease in leases}
    order = sorted(settings, key=lambda item: (-item[1].gw_priority, item[0].name))
    open_ones = [network for network, _ in order if network.id in held and network.driver == "bridge" and not network.internal]
    found: dict[int, tuple[Network, Lease]] = {}
    for network in open_ones:
        lease = held[network.id]
        for version, address in ((4, lease.ipv4), (6, lease.ipv6)):
            if address:
                found.setdefault(version, (network, lease))
    binding = found[4][0].options.get(options.HOST_BINDING, "") if 4 in found else ""
    modes = {options.GATEWAY_MODE_4: 4, options.GATEWAY_MODE_6: 6}
    routed = any(v in found and found[v][0].options.get(name) == "routed" for name, v in modes.items())
    return Places(
        relayed=relay and len(found) == 1 and not routed,
        v4=found[4][1] if 4 in found else None,
        v6=found[6][1] if 6 in found else None,
        binding="" if binding == "0.0.0.0" else binding,
    )


def allocate(config: Config, where: Places, ports: HostPorts, avoid: frozenset[int]) -> tuple[Published, ...]:
    """Take the host's ports for a container, all or none.

    Raises:
        InternalError: one is taken, with Docker's message.
        NotImplementedHere: an address of the host can't lead to the container.
    """
    if where.v4 is None and where.v6 is None:
        return ()
    taken: list[Published] = []
    try:
        for wanted in wanted_ports(config.config, config.host_config):
            taken += ports.allocate(wanted, _addresses(wanted, where), avoid)
    except DaemonError:
        ports.release(taken)
        raise
    return tuple(taken)


def _addresses(wanted: Wanted, where: Places) -> list[str]:
    asked = wanted.host_ip or where.binding
    if not asked:
        addresses = [address for address, lease in (("0.0.0.0", where.v4), ("::", where.v6)) if lease is not None]
        # As Docker has it: no implicit 0.0.0.0 for a container that only has IPv6.
        also = where.v6 is None and where.relayed and wanted.protocol in RELAYED and host_has_ipv6()
        return [*addresses, "::"] if also else addresses
    own = where.v6 if ":" in asked else where.v4
    if own is None and (wanted.protocol not in RELAYED or where.of(asked) is None):
        version = 6 if ":" in asked else 4
        raise NotImplementedHere(
            f"port {wanted.port}/{wanted.protocol} can't be published at {asked}: the container has no IPv{version} address"
        )
    return [asked]


def port(published: Published, where: Places) -> Port:
    """A published port in the runtime's terms."""
    lease = where.of(published.host_ip)
    protocol = published.protocol
    return Port(
        protocol="udp" if protocol == "udp" else "sctp" if protocol == "sctp" else "tcp",
        container_port=published.port,
        endpoint=lease.endpoint if lease is not None else "",
        host_address=published.host_ip,
        host_port=published.host_port,
    )


def flexible(config: Config, failed: Port) -> bool:
    """Whether another of the host's ports would do in place of one that is taken."""
    return any(
        wanted.flexible
        for wanted in wanted_ports(config.config, config.host_config)
        if (wanted.port, wanted.protocol) == (failed.container_port, failed.protocol)
        and (not wanted.first or wanted.first <= failed.host_port <= wanted.last)
    )


def shown(config: Config, published: Sequence[Published]) -> dict[str, list[PortBinding] | None]:
    """A running container's ports for ``inspect``; one that is only exposed has none."""
    found = port_map(exposed_ports(config.config, config.host_config), published)
    return {
        name: [PortBinding(host_ip=item.host_ip, host_port=str(item.host_port)) for item in items] or None
        for name, items in found.items()
    }
