"""Networks: endpoints, ports and addresses as containers see them.

Source: Docker Engine API v1.51, definitions EndpointSettings, NetworkSettings, PortMap, Port.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType, field


class PortBinding(Struct, rename="pascal", frozen=True):
    """A host address and port that a container's port is published at."""

    host_ip: str = ""
    host_port: str = ""


PortMap = dict[str, list[PortBinding] | None]
"""From ``"80/tcp"`` to where it is published."""


class EndpointIPAMConfig(Struct, rename="pascal", frozen=True):
    """Addresses a client asked for."""

    ipv4_address: str | UnsetType = field(name="IPv4Address", default=UNSET)
    ipv6_address: str | UnsetType = field(name="IPv6Address", default=UNSET)
    link_local_ips: list[str] | UnsetType | None = field(name="LinkLocalIPs", default=UNSET)


class EndpointSettings(Struct, rename="pascal", frozen=True):
    """A container's attachment to one network."""

    ipam_config: EndpointIPAMConfig | None = field(name="IPAMConfig", default=None)
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = field(name="NetworkID", default="")
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    dns_names: list[str] | None = field(name="DNSNames", default=None)


class NetworkingConfig(Struct, rename="pascal", frozen=True):
    """The networks a container is to join, by name."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class Address(Struct, rename="pascal", frozen=True):
    """An address with its prefix length."""

    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(Struct, rename="pascal", frozen=True):
    """A container's network as ``inspect`` shows it."""

    bridge: str = ""
    sandbox_id: str = field(name="SandboxID", default="")
    sandbox_key: str = ""
    ports: PortMap = {}
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(name="LinkLocalIPv6Address", default="")
    link_local_ipv6_prefix_len: int = field(name="LinkLocalIPv6PrefixLen", default=0)
    secondary_ip_addresses: list[Address] | None = field(name="SecondaryIPAddresses", default=None)
    secondary_ipv6_addresses: list[Address] | None = field(name="SecondaryIPv6Addresses", default=None)
    endpoint_id: str = field(name="EndpointID", default="")
    gateway: str = ""
    global_ipv6_address: str = field(name="GlobalIPv6Address", default="")
    global_ipv6_prefix_len: int = field(name="GlobalIPv6PrefixLen", default=0)
    ip_address: str = field(name="IPAddress", default="")
    ip_prefix_len: int = field(name="IPPrefixLen", default=0)
    ipv6_gateway: str = field(name="IPv6Gateway", default="")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = {}


class Port(Struct, rename="pascal", frozen=True):
    """A port as ``ps`` shows it."""

    private_port: int
    type: str
    ip: str | UnsetType = field(name="IP", default=UNSET)
    public_port: int | UnsetType = UNSET
