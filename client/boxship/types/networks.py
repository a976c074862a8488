"""Networks: what a client asks for, what the engine says of one, and endpoints, ports and addresses as containers see them.

Source: Docker Engine API v1.51, definitions Network, IPAM, EndpointSettings, NetworkSettings, PortMap, Port and the bodies of
the Network operations.
"""

from __future__ import annotations

from typing import Any

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


class IPAMConfig(Struct, rename="pascal", frozen=True):
    """A subnet with what is reserved in it."""

    subnet: str | UnsetType = UNSET
    ip_range: str | UnsetType = field(name="IPRange", default=UNSET)
    gateway: str | UnsetType = UNSET
    aux_addresses: dict[str, str] | UnsetType | None = field(name="AuxiliaryAddresses", default=UNSET)


class IPAM(Struct, rename="pascal", frozen=True):
    """Where a network's addresses come from."""

    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(Struct, rename="pascal", frozen=True):
    """The configuration-only network that another one takes its configuration from."""

    network: str = ""


class EndpointResource(Struct, rename="pascal", frozen=True):
    """A container on a network, as the network shows it."""

    name: str
    endpoint_id: str = field(name="EndpointID")
    mac_address: str
    ipv4_address: str = field(name="IPv4Address")
    ipv6_address: str = field(name="IPv6Address")


class Network(Struct, rename="pascal", frozen=True):
    """A network. ``created`` is RFC 3339; ``containers`` is filled in by NetworkInspect only, as in Docker."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = field(name="EnableIPv4")
    enable_ipv6: bool = field(name="EnableIPv6")
    ipam: IPAM = field(name="IPAM")
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference
    config_only: bool
    containers: dict[str, EndpointResource]
    options: dict[str, str]
    labels: dict[str, str]


class NetworkCreateRequest(Struct, rename="pascal", frozen=True):
    """The body of ``NetworkCreate``. ``check_duplicate`` is of older clients: names are always unique."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: IPAM | None = field(name="IPAM", default=None)
    enable_ipv4: bool | None = field(name="EnableIPv4", default=None)
    enable_ipv6: bool | None = field(name="EnableIPv6", default=None)
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    check_duplicate: Any = None


class NetworkCreateResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``NetworkCreate``."""

    id: str
    warning: str = ""


class NetworkConnectRequest(Struct, rename="pascal", frozen=True):
    """The body of ``NetworkConnect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectRequest(Struct, rename="pascal", frozen=True):
    """The body of ``NetworkDisconnect``."""

    container: str = ""
    force: bool = False


class NetworkPruneResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``NetworkPrune``."""

    networks_deleted: list[str] | None
