"""Which published ports are relayed: those that the firewall can't serve.

There are two kinds. A port of the host's IPv6 address can't be translated to a container that only has IPv4, nor the other way
round. And what the host itself sends to ``::1`` can't be translated where bridges show IPv6 packets to the firewall
(``bridge-nf-call-ip6tables``): the answer gets its loopback address back on the bridge, before the kernel looks whether
such an address may come in by a link, and it mayn't.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from boxrun.network.boxes import Box, routed
from boxrun.network.contract import Port
from boxrun.network.errors import NetworkError
from boxrun.network.holders import Admitted, let_in
from boxrun.network.links import read_sysctl
from boxrun.network.relay.protocol import Relay


def loopback_needs_relay() -> bool:
    """Whether ``::1`` can't be had of the firewall, in the calling thread's namespace."""
    return read_sysctl("bridge/bridge-nf-call-ip6tables") == "1"


def relay_of(box: Box, port: Port, *, loopback: bool) -> tuple[Relay, Admitted] | None:
    """How a published port is relayed, and what of it; None for not at all.

    Args:
        box: the container's.
        port: one that the host has a socket for.
        loopback: ``::1`` has to be relayed.

    Raises:
        NetworkError: it would have to be relayed and can't be.
    """
    cable, host = box.cables[port.endpoint], ip_address(port.host_address)
    target = cable.first(host.version)
    only_loopback = target is not None
    if only_loopback and not (loopback and host.version == 6 and (host.is_unspecified or host.is_loopback)):
        return None
    if routed(cable.network, host.version):
        return None
    if target is None:
        target = cable.first(4 if host.version == 6 else 6)
    if port.protocol == "sctp" or target is None:
        if only_loopback:
            return None
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
    return relay, "loopback" if only_loopback else "everything"


def settle(box: Box, *, loopback: bool) -> None:
    """Find what is to be relayed of a sandbox, and have its sockets let that in.

    Raises:
        NetworkError: something would have to be relayed and can't be.
        OSError: a filter was refused.
    """
    relays: dict[Relay, socket.socket] = {}
    before = set(map(id, box.relays.values()))
    for port, sock in box.holders.items():
        found = relay_of(box, port, loopback=loopback)
        if found is not None:
            relay, admitted = found
            if relay not in box.relays:
                let_in(sock, admitted)
            relays[relay] = sock
        elif id(sock) in before:
            let_in(sock, "nothing")
    box.relays = relays


def name_of(port: Port) -> tuple[str, str, int]:
    """By what a socket of the host's is known, whoever holds it."""
    return port.protocol, port.host_address, port.host_port


Sockets = dict[tuple[str, str, int], socket.socket]
"""Sockets of the host's by name."""
