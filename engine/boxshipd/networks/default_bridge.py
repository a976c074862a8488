"""The networks that are always there: ``bridge``, ``host`` and ``none``, as the daemon's configuration has them.

Source: moby daemon/daemon_unix.go (initBridgeDriver).
"""

from __future__ import annotations

import fcntl
import secrets
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_interface, ip_network

from msgspec.structs import replace

from boxshipd.errors import InvalidParameter
from boxshipd.networks import options
from boxshipd.networks.drafting import with_addresses
from boxshipd.networks.model import BRIDGE, HOST, NONE, Network, Subnet
from boxshipd.networks.settings import NetworkSettings

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_DEFAULT_MTU = 1500


def without_interfaces(present: Sequence[Network]) -> list[Network]:
    """``none`` and ``host``, those on record where they are."""
    named = {network.name: network for network in present}
    return [named.get(NONE) or _fresh(NONE, "null"), named.get(HOST) or _fresh(HOST, "host")]


def default_bridge(settings: NetworkSettings, present: Sequence[Network]) -> Network | None:
    """The default bridge as it is to be; one on record keeps its id and, where nothing else is asked, its subnets.

    Args:
        settings: the daemon's.
        present: all networks on record.

    Raises:
        InvalidParameter, Forbidden: no subnet is left for it, or its configuration can't be.
    """
    if settings.bridge == "none":
        return None
    old = next((network for network in present if network.name == BRIDGE), None)
    return _bridge(settings, old, [network for network in present if network.name != BRIDGE])


def _fresh(name: str, driver: str) -> Network:
    return Network(id=secrets.token_hex(32), name=name, created=time.time_ns(), driver=driver)


def _bridge(settings: NetworkSettings, old: Network | None, others: Sequence[Network]) -> Network:
    base = old or _fresh(BRIDGE, "bridge")
    given = bridge_options(settings)
    known = old is not None and old.options.get(options.NAME) == settings.bridge_interface
    foreign = base.foreign if known else exists(settings.bridge_interface)
    subnets = _configured(settings, own=known and not foreign)
    network = replace(base, options=given, ipv6=settings.ipv6, default=True, subnets=tuple(subnets), foreign=foreign)
    if old is not None and _same(old, network):
        return replace(old, options=given)
    return with_addresses(network, settings, others)


def bridge_options(settings: NetworkSettings) -> dict[str, str]:
    """The default bridge's options, by Docker's names."""
    return {
        options.DEFAULT: "true",
        options.ICC: _word(settings.icc),
        options.MASQUERADE: _word(settings.ip_masq),
        options.HOST_BINDING: settings.ip or "0.0.0.0",
        options.NAME: settings.bridge_interface,
        options.MTU: str(settings.mtu or _DEFAULT_MTU),
    }


def _word(value: bool) -> str:
    return "true" if value else "false"


def _same(old: Network, wanted: Network) -> bool:
    """Whether a bridge on record will do: the same families, and the subnets that are asked for, where any are."""
    if old.ipv6 != wanted.ipv6 or old.options.get(options.NAME) != wanted.options[options.NAME]:
        return False
    for version in (4, 6) if wanted.ipv6 else (4,):
        asked = [subnet for subnet in wanted.subnets if subnet.version == version]
        had = [subnet for subnet in old.subnets if subnet.version == version]
        if asked and had != [replace(asked[0], gateway=asked[0].gateway or (had[0].gateway if had else ""))]:
            return False
        if not asked and any(subnet.configured for subnet in had):
            return False
    return True


def _configured(settings: NetworkSettings, *, own: bool) -> Iterable[Subnet]:
    """The subnets that the configuration sets, or the interface that somebody else has made."""
    found = []
    bip = settings.bip or ("" if own else _address_of(settings.bridge_interface))
    for address, cidr, router in (
        (bip, settings.fixed_cidr, settings.default_gateway),
        (settings.bip6, settings.fixed_cidr_v6, settings.default_gateway_v6),
    ):
        if not address and not cidr:
            continue
        whole = ip_interface(address).network if address else ip_network(cidr)
        if cidr and not _within(cidr, str(whole)):
            raise InvalidParameter(f"fixed-cidr {cidr} is not within the bridge's network {whole}")
        bridge = str(ip_interface(address).ip) if address else ""
        aux = {}
        if router:
            if ip_address(router) not in whole:
                raise InvalidParameter(f"default gateway {router} must be part of the network {whole}")
            aux = {"DefaultGatewayIPv6" if ":" in router else "DefaultGatewayIPv4": router}
        narrowed = cidr if cidr and ip_network(cidr) != whole else ""
        found.append(Subnet(pool=str(whole), range=narrowed, gateway=bridge, aux=aux, configured=True))
    return found


def exists(interface: str) -> bool:
    """Whether the host has an interface of a name."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def _within(part: str, whole: str) -> bool:
    one, other = ip_network(part), ip_network(whole)
    return one.version == other.version and other.overlaps(one) and one.prefixlen >= other.prefixlen


def _address_of(interface: str) -> str:
    """The IPv4 address of an interface that is there, with its prefix length; empty where it has none. Source: netdevice(7)."""
    request = struct.pack("16s16x", interface.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            address, mask = (
                socket.inet_ntoa(fcntl.ioctl(sock, number, request)[20:24]) for number in (_SIOCGIFADDR, _SIOCGIFNETMASK)
            )
        except OSError:
            return ""
    return str(ip_interface(f"{address}/{mask}"))
