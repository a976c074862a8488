"""A network's record, and what a container holds of one while it is connected."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

import msgspec
from msgspec import Struct

BRIDGE: Final = "bridge"
HOST: Final = "host"
NONE: Final = "none"
PREDEFINED: Final = frozenset({BRIDGE, HOST, NONE})
"""The networks that are always there, by name."""
DEFAULT_MODES: Final = frozenset({"", "default", BRIDGE})
"""What a container's network mode may be that means the default bridge."""

AnyNetwork = IPv4Network | IPv6Network


class Subnet(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A range of addresses of a network.

    Args:
        pool: in CIDR notation.
        range: the part of it that addresses are given out of; empty for all of it.
        gateway: the host's end, or a router's; empty for none.
        aux: addresses that are kept free, by name.
        configured: whether a client chose the pool, so that containers may ask for an address of it.
    """

    pool: str
    range: str = ""
    gateway: str = ""
    aux: dict[str, str] = {}
    configured: bool = False

    @property
    def network(self) -> AnyNetwork:
        """The pool."""
        return ip_network(self.pool)

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.pool else 4


class Network(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network, which never changes.

    Args:
        id: 64 hex digits.
        name: unique.
        created: ns since the epoch.
        driver: bridge, macvlan, ipvlan, host or null.
        subnets: its addresses.
        ipv4, ipv6: which of both it has.
        internal: without a way out.
        attachable, labels: as given.
        options: the driver's, as given.
        ipam_driver, ipam_options: as given.
        config_only: it is nothing but a configuration for others.
        config_from: the one that this one's configuration is.
        default: the default bridge, whose containers have neither addresses of their own choice nor names.
        foreign: its bridge was there before, and isn't ours to remove.
    """

    id: str
    name: str
    created: int
    driver: str
    subnets: tuple[Subnet, ...] = ()
    ipv4: bool = True
    ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    ipam_driver: str = "default"
    ipam_options: dict[str, str] | None = None
    config_only: bool = False
    config_from: str = ""
    default: bool = False
    foreign: bool = False

    @property
    def predefined(self) -> bool:
        """Whether it is one of those that are always there."""
        return self.name in PREDEFINED

    @property
    def real(self) -> bool:
        """Whether containers get an interface of it."""
        return self.driver not in {"host", "null"} and not self.config_only


class Lease(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A running container's place on a network: what it holds from its start to its end.

    Args:
        network: the network's id.
        endpoint: 64 hex digits.
        interface: its name in the container.
        ipv4, ipv6: addresses with their prefix lengths; empty for none.
        gateway4, gateway6: empty for none.
        mac: of the interface.
    """

    network: str
    endpoint: str
    interface: str
    ipv4: str = ""
    ipv6: str = ""
    gateway4: str = ""
    gateway6: str = ""
    mac: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses without prefix lengths."""
        return tuple(address.partition("/")[0] for address in (self.ipv4, self.ipv6) if address)


class Published(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A port of a running container that the host's port leads to.

    Args:
        protocol: tcp, udp or sctp.
        port: the container's.
        host_ip, host_port: where it is published.
    """

    protocol: str
    port: int
    host_ip: str
    host_port: int


_decoder = msgspec.json.Decoder(Network)
encode = msgspec.json.encode


def decode(data: bytes) -> Network:
    """A network out of the database."""
    return _decoder.decode(data)
