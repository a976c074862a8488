"""Which published ports are relayed: those that the firewall can't serve.

There are three kinds. A port of the host's IPv6 address can't be translated to a container that only has IPv4, nor vice versa.
The other two are where bridges show packets to the firewall (``bridge-nf-call-iptables``, ``bridge-nf-call-ip6tables``).
What the host itself sends to ``::1`` can't be translated then: the answer gets its loopback address back on the bridge, before
the kernel looks whether such an address may come in by a link, and it mayn't. And what a container on a network without icc
sends to a neighbour's port by the host's address is translated on the bridge, and would go on from port to port, which are kept
apart: it isn't translated, and comes to the host.
"""

from __future__ import annotations

import socket
from collections.abc import Collection
from ipaddress import ip_address, ip_network

from boxrun.network import holders
from boxrun.network.boxes import Box, routed
from boxrun.network.contract import NetworkSpec, Port
from boxrun.network.errors import NetworkError
from boxrun.network.holders import Admitted, Some
from boxrun.network.links import read_sysctl
from boxrun.network.relay.protocol import Relay


def bridged_versions() -> frozenset[int]:
    """The IP versions of which bridges show packets to the firewall, in the calling thread's namespace."""
    settings = {4: "bridge/bridge-nf-call-iptables", 6: "bridge/bridge-nf-call-ip6tables"}
    return frozenset(version for version, name in settings.items() if read_sysctl(name) == "1")


def relay_of(box: Box, port: Port, *, bridged: Collection[int]) -> tuple[Relay, Admitted] | None:
    """How a published port is relayed, and what of it; None for not at all.

    Args:
        box: the container's.
        port: one that the host has a socket for.
        bridged: the IP versions of which bridges show packets to the firewall.

    Raises:
        NetworkError: it would have to be relayed and can't be.
    """
    cable, host = box.cables[port.endpoint], ip_address(port.host_address)
    target, admitted = cable.first(host.version), _untranslated(cable.network, port, bridged)
    if routed(cable.network, host.version) or (target is not None and not admitted):
        return None
    if target is None:
        target, admitted = cable.first(4 if host.version == 6 else 6), "everything"
    if port.protocol == "sctp" or target is None:
        text = f"publish {port.host_address}:{port.host_port}/{port.protocol}: no IPv{host.version} address"
        raise NetworkError(text, "unsupported", port)
    relay = Relay(
        container=box.container,
        protocol=port.protocol,
        host_address=port.host_address,
        host_port=port.host_port,
        address=str(target),
        port=port.container_port,
    )
    return relay, admitted


def _untranslated(network: NetworkSpec, port: Port, bridged: Collection[int]) -> Admitted:
    """What the firewall can't serve of a port that otherwise is translated."""
    host = ip_address(port.host_address)
    if port.protocol == "sctp" or host.version not in bridged:
        return ()
    found = [holders.TO_LOOPBACK] if host.version == 6 and (host.is_unspecified or host.is_loopback) else []
    if not network.icc and not host.is_loopback:
        subnets = (ip_network(subnet) for subnet in network.subnets)
        found += [Some("source", subnet) for subnet in subnets if subnet.version == host.version]
    return found


def settle(box: Box, *, bridged: Collection[int]) -> None:
    """Find what is to be relayed of a sandbox, and have its sockets let that in.

    Raises:
        NetworkError: something would have to be relayed and can't be.
        OSError: a filter was refused.
    """
    relays: dict[Relay, socket.socket] = {}
    neighbourly: set[Port] = set()
    before = set(map(id, box.relays.values()))
    for port, sock in box.holders.items():
        found = relay_of(box, port, bridged=bridged)
        if found is not None:
            relay, admitted = found
            holders.let_in(sock, admitted)
            relays[relay] = sock
            if admitted != "everything" and any(some.end == "source" for some in admitted):
                neighbourly.add(port)
        elif id(sock) in before:
            holders.let_in(sock, ())
    box.relays, box.neighbourly = relays, frozenset(neighbourly)


def name_of(port: Port) -> tuple[str, str, int]:
    """By what a socket of the host's is known, whoever holds it."""
    return port.protocol, port.host_address, port.host_port


Sockets = dict[tuple[str, str, int], socket.socket]
"""Sockets of the host's by name."""
