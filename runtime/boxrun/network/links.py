"""The host's end of networks: bridges with their addresses, and parents of macvlan and ipvlan networks.

Done once for each network, by pyroute2's codecs. What is ours bears the network's id as its alias, so that nothing of anybody
else's is ever changed or removed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Mapping
from errno import EEXIST, ENODEV, EOPNOTSUPP
from typing import Any, Final

from boxrun.network import rtnetlink
from boxrun.network.contract import Driver, NetworkSpec
from boxrun.network.errors import KernelRefusalError, NetworkError
from boxrun.network.features import why_not
from boxrun.network.netlink import CREATE, EXCLUSIVE, NetlinkSocket, Request
from boxrun.network.state import Forwarding

NAME: Final = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
_NEWLINK, _GETLINK, _GETADDR = 16, 18, 22
_ALIAS: Final = "boxship network "
_SYSCTL: Final = "/proc/sys/net"
_FORWARDING: Final = {4: "ipv4/ip_forward", 6: "ipv6/conf/all/forwarding"}
MODES: Final[dict[Driver, tuple[str, ...]]] = {
    "macvlan": ("bridge", "private", "vepa", "passthru"),
    "ipvlan": ("l2", "l3", "l3s"),
}
IPVLAN_FLAGS: Final = ("bridge", "private", "vepa")


def check(network: NetworkSpec) -> None:
    """Refuse what can't be meant. Raises NetworkError."""
    names = [*network.trusted_interfaces, *filter(None, (network.interface, f"{network.prefix}0"))]
    if network.driver == "bridge" and not network.interface:
        raise NetworkError(f"network {network.id}: a bridge needs a name", "interface")
    for name in names:
        if not NAME.fullmatch(name) or name in (".", ".."):
            raise NetworkError(f"network {network.id}: {name!r} is not an interface's name", "interface")
    try:
        for address in (*network.addresses, *network.subnets):
            ipaddress.ip_interface(address)
        for source in filter(None, (network.snat_v4, network.snat_v6)):
            ipaddress.ip_address(source)
    except ValueError as error:
        raise NetworkError(f"network {network.id}: {error}", "kernel") from error


def ensure(network: NetworkSpec) -> None:
    """Have the network's host's end, in the calling thread's namespace; again changes what has changed.

    Raises:
        NetworkError: a name is taken, a parent is missing, the kernel has no such driver.
    """
    with NetlinkSocket() as route:
        if network.driver == "bridge":
            _ensure_bridge(route, network)
        else:
            _ensure_parent(route, network)


def remove(network: NetworkSpec) -> None:
    """Remove what ``ensure`` has made; gone is fine. Raises NetworkError."""
    with NetlinkSocket() as route:
        if network.driver == "bridge" and network.foreign:
            return
        link = _link(route, parent_name(network))
        if link is not None and _of(link, "IFLA_IFALIAS") == _ALIAS + network.id:
            route.run([rtnetlink.delete_link(link["index"])])


def mode_of(network: NetworkSpec) -> str:
    """The mode of a macvlan or ipvlan network."""
    return network.mode or MODES[network.driver][0]


def parent_name(network: NetworkSpec) -> str:
    """The interface that sandboxes hang on; that of a network without a parent is one of ours."""
    return network.interface or f"bxm{network.id[:11]}"


def index_of(network: NetworkSpec) -> int:
    """Its number. Raises NetworkError."""
    try:
        return socket.if_nametoindex(parent_name(network))
    except OSError as error:
        raise NetworkError(f"network {network.name or network.id}: no interface {parent_name(network)}", "interface") from error


def _ensure_bridge(route: NetlinkSocket, network: NetworkSpec) -> None:
    link = _link(route, network.interface)
    if link is None:
        if network.foreign:
            raise NetworkError(f"network {network.name}: no bridge {network.interface}", "interface")
        _add(route, network, network.interface, "bridge", [("IFLA_ADDRESS", fixed_mac(network.id))])
        link = _link(route, network.interface)
        assert link is not None
    elif _kind(link) != "bridge" or not (network.foreign or _of(link, "IFLA_IFALIAS") == _ALIAS + network.id):
        what = "a bridge of somebody else's" if _kind(link) == "bridge" else "no bridge"
        raise NetworkError(f"network {network.name}: interface {network.interface} is {what}", "interface")
    index = link["index"]
    _bridge_sysctls(network)
    requests = []
    if not network.foreign:
        wanted = {ipaddress.ip_interface(address) for address in network.addresses}
        there = _addresses(route, index)
        requests += [rtnetlink.remove_address(index, address) for address in there - wanted if not address.is_link_local]
        requests += [rtnetlink.add_address(index, address) for address in wanted - there]
        if network.mtu:
            requests.append(rtnetlink.set_mtu(index, network.mtu))
    requests.append(rtnetlink.link_up(index))
    if _has_v6(network):
        # Answers to what the host sends from ::1 to a published port; what isn't an answer never gets as far.
        requests.append(rtnetlink.add_own_loopback(index))
    route.run(requests)


def _has_v6(network: NetworkSpec) -> bool:
    return any(ipaddress.ip_interface(address).version == 6 for address in network.addresses)


def _bridge_sysctls(network: NetworkSpec) -> None:
    v6 = _has_v6(network)
    settings = {f"ipv6/conf/{network.interface}/accept_ra": "0"}
    if not v6 and not network.foreign:
        settings[f"ipv6/conf/{network.interface}/disable_ipv6"] = "1"
    elif v6:
        settings[f"ipv6/conf/{network.interface}/disable_ipv6"] = "0"
        settings[f"ipv6/conf/{network.interface}/accept_dad"] = "0"
    # Answers to what the host sends from 127.0.0.1 to a published port come in here; the firewall's guard is for all else.
    settings[f"ipv4/conf/{network.interface}/route_localnet"] = "1"
    for name, value in settings.items():
        write_sysctl(name, value)


def interfaces(but: str = "") -> list[str]:
    """The names of the interfaces of the calling thread's namespace."""
    return [name for _, name in socket.if_nameindex() if name not in ("lo", but)]


def stop_forwarding(before: Forwarding) -> None:
    """Turn off what we have turned on, unless there are interfaces by now whose owners may count on it."""
    if not set(interfaces()) - set(before.interfaces):
        for name in before.settings:
            write_sysctl(name, "0")


def forwarding(network: NetworkSpec) -> list[str]:
    """Have the host forward packets, where this network needs that; returns the settings that had to be turned on."""
    if network.driver != "bridge" or network.internal:
        return []
    changed = []
    versions = {ipaddress.ip_interface(subnet).version for subnet in (*network.subnets, *network.addresses)}
    for version, name in _FORWARDING.items():
        if version in versions and read_sysctl(name) == "0":
            write_sysctl(name, "1")
            changed.append(name)
    return changed


def _ensure_parent(route: NetlinkSocket, network: NetworkSpec) -> None:
    if mode_of(network) not in MODES[network.driver]:
        raise NetworkError(f"network {network.name}: unknown {network.driver} mode {network.mode}", "unsupported")
    if network.driver == "ipvlan" and (network.flag or IPVLAN_FLAGS[0]) not in IPVLAN_FLAGS:
        raise NetworkError(f"network {network.name}: unknown ipvlan flag {network.flag}", "unsupported")
    if why := why_not(network.driver):
        raise NetworkError(f"network {network.name}: {why}", "unsupported")
    name = parent_name(network)
    if _link(route, name) is None:
        if not network.interface:
            # A parent for those that have none. Any interface with a carrier will do, and every kernel with macvlan has veth.
            peer = {"attrs": [("IFLA_IFNAME", f"bxp{network.id[:11]}")]}
            _add(route, network, name, "veth", [], data=[("VETH_INFO_PEER", peer)])
            route.run([rtnetlink.link_up(0, f"bxp{network.id[:11]}")])
        else:
            parent, _, number = name.rpartition(".")
            base = _link(route, parent) if parent and number.isdigit() else None
            if base is None:
                raise NetworkError(f"network {network.name}: no parent interface {name}", "interface")
            _add(route, network, name, "vlan", [("IFLA_LINK", base["index"])], data=[("IFLA_VLAN_ID", int(number))])
    route.run([rtnetlink.link_up(0, name)])


def _add(
    route: NetlinkSocket,
    network: NetworkSpec,
    name: str,
    kind: str,
    attributes: list[tuple[str, Any]],
    *,
    data: list[tuple[str, Any]] | None = None,
) -> None:
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": data}))
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name), *attributes, ("IFLA_LINKINFO", {"attrs": info})]
    message.encode()
    try:
        route.run([Request(_NEWLINK, CREATE | EXCLUSIVE, bytes(message.data)[16:], f"make {kind} {name}")])
    except KernelRefusalError as error:
        if error.errno == EOPNOTSUPP:
            raise NetworkError(f"network {network.name}: this kernel has no {kind} driver", "unsupported") from error
        if error.errno == EEXIST:
            raise NetworkError(f"network {network.name}: interface {name} or its VLAN exists already", "interface") from error
        raise
    route.run([rtnetlink.set_alias(name, _ALIAS + network.id)])


def _link(route: NetlinkSocket, name: str) -> Mapping[str, Any] | None:
    """A link as pyroute2 decodes it; None where there is none of the name."""
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

    try:
        body = route.ask(Request(_GETLINK, 0, rtnetlink.link_by_name(name), f"look at interface {name}"))
    except KernelRefusalError as error:
        if error.errno == ENODEV:
            return None
        raise
    message = ifinfmsg(struct.pack("=IHHII", 16 + len(body), _NEWLINK, 0, 0, 0) + body)
    message.decode()
    found: Mapping[str, Any] = message
    return found


def _of(link: Mapping[str, Any], name: str) -> Any:
    return next((value for key, value in link["attrs"] if key == name), None)


def _kind(link: Mapping[str, Any]) -> str:
    info = _of(link, "IFLA_LINKINFO")
    return str(_of(info, "IFLA_INFO_KIND")) if info else ""


def _addresses(route: NetlinkSocket, index: int) -> set[rtnetlink.Interface]:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg

    found = set()
    for kind, body in route.dump(_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), "list addresses"):
        message = ifaddrmsg(struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body)
        message.decode()
        if message["index"] == index:
            address = _of(message, "IFA_LOCAL") or _of(message, "IFA_ADDRESS")
            found.add(ipaddress.ip_interface(f"{address}/{message['prefixlen']}"))
    return found


def fixed_mac(*parts: str) -> str:
    """A MAC address made of ``parts``: locally administered, and the same every time.

    An address of a network keeps its MAC, whoever has it, so no neighbour's cache is ever wrong; and a bridge keeps its own,
    which would else be that of one of its ports.
    """
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=5).digest()
    return ":".join(f"{byte:02x}" for byte in b"\x02" + digest)


def read_sysctl(name: str) -> str:
    """A setting below net, of the calling thread's namespace; empty where there is none."""
    try:
        with open(f"{_SYSCTL}/{name}") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def write_sysctl(name: str, value: str, *, required: bool = False) -> None:
    """Set one; one that the kernel hasn't (IPv6 may be off) is passed over unless it is ``required``. Raises OSError."""
    try:
        fd = os.open(f"{_SYSCTL}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if required:
            raise
        return
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
