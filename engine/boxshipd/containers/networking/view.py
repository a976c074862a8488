"""A container's networks and ports as ``inspect`` and ``ps`` show them. Source: moby daemon/inspect.go, container/view.go."""

from __future__ import annotations

from boxship.types.networks import EndpointSettings, NetworkSettings, Port
from msgspec import UNSET
from msgspec.structs import replace

from boxshipd.containers.model import Container
from boxshipd.containers.networking import publishing
from boxshipd.containers.networking.config import dns_names, endpoints_of
from boxshipd.networks.model import BRIDGE, Lease
from boxshipd.networks.ports import exposed_ports
from boxshipd.networks.service import Networks


def endpoints(container: Container, networks: Networks) -> dict[str, EndpointSettings]:
    """A container's networks by name: what was asked for and, while it runs, what it has."""
    config = container.config
    leases = {lease.network: lease for lease in container.state.leases}
    found = {}
    for name, settings in endpoints_of(config.host_config, config.networking).items():
        network = networks.named(name)
        if network is None:
            found[name] = settings
            continue
        names = None
        if not network.predefined:
            names = dns_names(container.name, container.id, config.config, settings)
        shown = replace(settings, network_id=network.id, dns_names=names)
        found[name] = _with_lease(shown, leases[network.id]) if network.id in leases else shown
    return found


def _with_lease(settings: EndpointSettings, lease: Lease) -> EndpointSettings:
    ipv4, _, length4 = lease.ipv4.partition("/")
    ipv6, _, length6 = lease.ipv6.partition("/")
    return replace(
        settings,
        endpoint_id=lease.endpoint,
        mac_address=lease.mac,
        gateway=lease.gateway4,
        ip_address=ipv4,
        ip_prefix_len=int(length4 or 0),
        ipv6_gateway=lease.gateway6,
        global_ipv6_address=ipv6,
        global_ipv6_prefix_len=int(length6 or 0),
    )


def settings(container: Container, networks: Networks) -> NetworkSettings:
    """The network part of ``inspect``, with the default bridge's endpoint where clients of old look for it."""
    found = endpoints(container, networks)
    main = found.get(BRIDGE, EndpointSettings())
    running = bool(container.state.leases)
    return NetworkSettings(
        sandbox_id=container.id if running else "",
        sandbox_key=f"/proc/{container.state.pid}/ns/net" if running and container.state.pid else "",
        ports=publishing.shown(container.config, container.state.published) if running else {},
        endpoint_id=main.endpoint_id,
        gateway=main.gateway,
        global_ipv6_address=main.global_ipv6_address,
        global_ipv6_prefix_len=main.global_ipv6_prefix_len,
        ip_address=main.ip_address,
        ip_prefix_len=main.ip_prefix_len,
        ipv6_gateway=main.ipv6_gateway,
        mac_address=main.mac_address if main.endpoint_id else "",
        networks=found,
    )


def ports(container: Container) -> list[Port]:
    """The ports of ``ps``: published ones with the host's, others that are exposed without."""
    if not container.state.leases:
        return []
    published = container.state.published
    bound = {(item.port, item.protocol) for item in published}
    found = [
        Port(private_port=item.port, public_port=item.host_port, type=item.protocol, ip=item.host_ip) for item in published
    ]
    config = container.config
    found += [
        Port(private_port=port, type=protocol)
        for port, protocol in exposed_ports(config.config, config.host_config)
        if (port, protocol) not in bound
    ]
    return sorted(found, key=lambda port: (port.private_port, port.type, "" if port.ip is UNSET else str(port.ip)))


def published(container: Container) -> set[str]:
    """A container's ports that are published, or are to be, as ``80/tcp``."""
    asked = container.config.host_config.port_bindings or ()
    return {*asked, *(f"{item.port}/{item.protocol}" for item in container.state.published)}
