"""What there is in a sandbox: a container's endpoints, its ports, and the descriptors that hold it all."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from boxrun.network import firewall_rules as rules
from boxrun.network import rtnetlink
from boxrun.network.contract import Endpoint, NetworkSpec, Plugged, Port, Resolver, Sandbox, Way
from boxrun.network.firewall_rules import Element
from boxrun.network.netlink import NetlinkSocket
from boxrun.network.relay.protocol import Relay

FIRST_INDEX: Final = 64
"""The number of a sandbox's first interface: behind those that some kernels put into every namespace."""


@dataclass
class Cable:
    """An endpoint that is plugged in; ``index`` is its interface's number in the sandbox, ``port`` that of the bridge's port, 0
    where there is none or nobody knows it any more.
    """

    endpoint: Endpoint
    network: NetworkSpec
    index: int
    interface: str
    mac: str
    port: int = 0

    @cached_property
    def addresses(self) -> list[rtnetlink.Interface]:
        """The addresses."""
        return [ipaddress.ip_interface(address) for address in self.endpoint.addresses]

    def first(self, version: int) -> rules.Address | None:
        """The address that ports lead to."""
        return next((address.ip for address in self.addresses if address.version == version), None)


@dataclass
class Box:
    """A sandbox: its namespace's descriptor and what is in it.

    ``ready`` is the host's end's name and number while nothing is plugged in but a cable without an address. ``servers`` are
    the name server's sockets until they are handed over. ``installed`` is what the firewall has of it, ``relays`` what the
    relay is to carry, with the holders that it accepts on; ``neighbourly`` are the ports that neighbours have by the relay.
    """

    namespace: int
    route: NetlinkSocket
    container: str = ""
    next_index: int = FIRST_INDEX
    ready: tuple[str, int] | None = None
    servers: tuple[socket.socket, socket.socket] | None = None
    cables: dict[str, Cable] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    ways: tuple[Way, ...] = ()
    holders: dict[Port, socket.socket] = field(default_factory=dict)
    resolver: Resolver | None = None
    installed: list[Element] = field(default_factory=list)
    relays: Mapping[Relay, socket.socket] = field(default_factory=dict)
    neighbourly: frozenset[Port] = frozenset()

    def close(self) -> None:
        """Let go of everything; where no process is in it, the kernel takes the namespace apart."""
        self.close_servers()
        for sock in self.holders.values():
            sock.close()
        self.holders.clear()
        self.relays = {}
        self.route.close()
        if self.namespace >= 0:
            os.close(self.namespace)
            self.namespace = -1

    def close_servers(self) -> None:
        """Close the name server's sockets."""
        for sock in self.servers or ():
            sock.close()
        self.servers = None

    @property
    def record(self) -> Sandbox:
        """What is noted of it."""
        return Sandbox(
            container=self.container,
            endpoints=tuple(cable.endpoint for cable in self.cables.values()),
            plugged=self.plugged,
            ports=self.ports,
            ways=self.ways,
            resolver=self.resolver,
        )

    @property
    def plugged(self) -> tuple[Plugged, ...]:
        """The endpoints as they came to be."""
        return tuple(Plugged(endpoint=key, interface=c.interface, mac=c.mac) for key, c in self.cables.items())

    def elements(self) -> list[Element]:
        """The firewall's elements that belong to it."""
        found = [element for port in self.ports for element in self._port_elements(port)]
        if len(self.cables) > 1:
            found += [rules.several(address.ip) for cable in self.cables.values() for address in cable.addresses]
        for way, cable in self.along():
            source, target = cable.first(4), ipaddress.ip_address(way.address)
            assert source is not None
            found.append(rules.way(way.protocol, source, target, way.port))
        return found

    def along(self) -> Iterator[tuple[Way, Cable]]:
        """The ways, each with the endpoint that shares a network with where it leads."""
        for way in self.ways:
            for cable in self.cables.values():
                own = next((address for address in cable.addresses if address.version == 4), None)
                if own is not None and ipaddress.ip_address(way.address) in own.network:
                    yield way, cable
                    break

    def _port_elements(self, port: Port) -> Iterator[Element]:
        cable = self.cables[port.endpoint]
        host = ipaddress.ip_address(port.host_address)
        address = cable.first(host.version)
        if address is None:
            yield rules.relayed(port.protocol, port.host_port)
            return
        if routed(cable.network, host.version):
            yield rules.opened(port.protocol, address, port.container_port)
        else:
            yield rules.published(port.protocol, host, port.host_port, address, port.container_port)
        if port in self.neighbourly:
            yield rules.apart(port.protocol, host, port.host_port, cable.network.interface)
            yield rules.relayed(port.protocol, port.host_port)


def routed(network: NetworkSpec, version: int) -> bool:
    """Whether the network's ports are opened instead of translated."""
    return (network.gateway_mode_v4 if version == 4 else network.gateway_mode_v6) == "routed"
