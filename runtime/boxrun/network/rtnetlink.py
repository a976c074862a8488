"""The requests that plug a sandbox: veth pairs, addresses, routes. Source: rtnetlink(7), linux/if_link.h."""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from errno import EADDRNOTAVAIL, EAFNOSUPPORT, EEXIST, ENODEV, EPERM, ESRCH
from typing import Final

from boxrun.network.netlink import CREATE, EXCLUSIVE, REPLACE, Request, attribute, attributes, nested, text, u16, u32

_NEWLINK, _DELLINK, _SETLINK = 16, 17, 19
_NEWADDR, _DELADDR = 20, 21
_NEWROUTE, _DELROUTE = 24, 25

_UP: Final = 1
_NOARP: Final = 0x80
_REACHABLE: Final = 0x02
_NTF_MASTER: Final = 0x04
_ADDRESS, _IFNAME, _MTU, _MASTER, _LINKINFO, _NET_NS_FD, _PROTINFO, _IFALIAS = 1, 3, 4, 10, 18, 28, 12, 20
_INFO_KIND, _INFO_DATA = 1, 2
_STATS64: Final = 23
_AF_SPEC: Final = 26
_ADDR_GEN_MODE: Final = 8
_PEER: Final = 1
_BRPORT_HAIRPIN: Final = 4
_BRPORT_ISOLATED: Final = 33
_NODAD: Final = 0x02
_MAIN_TABLE: Final = 254
_LOCAL_TABLE: Final = 255
_LOCAL: Final = 2
_STATIC: Final = 4
_LINK_SCOPE: Final = 253
_UNICAST: Final = 1

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address6 = ipaddress.IPv6Address
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def mac_bytes(mac: str) -> bytes:
    """``02:42:..`` as six bytes. Raises ValueError."""
    found = bytes.fromhex(mac.replace(":", "").replace("-", ""))
    if len(found) != 6:
        raise ValueError(f"{mac!r} is not a MAC address")
    return found


def _link(index: int = 0, flags: int = 0, change: int = 0, family: int = socket.AF_UNSPEC) -> bytes:
    return struct.pack("=BxHiII", family, 0, index, flags, change)


def add_veth(name: str, index: int, peer: str, peer_namespace: int, mtu: int) -> Request:
    """A pair: ``name`` with number ``index`` here, ``peer`` in the namespace of a descriptor."""
    size = u32(_MTU, mtu) if mtu else b""
    other = _link() + text(_IFNAME, peer) + size + u32(_NET_NS_FD, peer_namespace)
    info = nested(_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_PEER, other)))
    body = _link(index) + text(_IFNAME, name) + size + info
    return Request(_NEWLINK, CREATE | EXCLUSIVE, body, f"make veth pair {name}, {peer}")


def add_gate(out: str, back: str, mac: str) -> list[Request]:
    """A pair in this namespace, both ends with one MAC address and without looking for neighbours."""
    hardware = attribute(_ADDRESS, mac_bytes(mac))
    other = _link(0, _NOARP, _NOARP) + text(_IFNAME, back) + hardware
    info = nested(_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, attribute(_PEER, other)))
    body = _link(0, _NOARP, _NOARP) + text(_IFNAME, out) + hardware + info
    return [Request(_NEWLINK, CREATE | EXCLUSIVE, body, f"make veth pair {out}, {back}")]


def learn(port: int, mac: str) -> Request:
    """Have a bridge know at which port a MAC address is, in the place of what it has learnt.

    A port that has just been set up learns nothing yet, nor will it from this: it hears of the address soon enough.
    """
    body = struct.pack("=BBHiHBB", socket.AF_BRIDGE, 0, 0, port, _REACHABLE, _NTF_MASTER, 0) + attribute(2, mac_bytes(mac))
    return Request(28, CREATE | REPLACE, body, f"have the bridge learn {mac}", frozenset({EPERM}))


def link_up(index: int, name: str = "") -> Request:
    """Set a link up, by its number, or by its name where that is 0."""
    return Request(_NEWLINK, 0, _link(index, _UP, _UP) + (text(_IFNAME, name) if not index else b""), f"set {name or index} up")


def link_down(index: int, name: str = "") -> Request:
    """Set a link down."""
    return Request(_NEWLINK, 0, _link(index, 0, _UP) + (text(_IFNAME, name) if not index else b""), f"set {name or index} down")


def enslave(name: str, bridge: int) -> list[Request]:
    """Make a link a port of a bridge, and set it up. A port needs no address: it would only announce one to everybody."""
    mute = nested(_AF_SPEC, nested(socket.AF_INET6, attribute(_ADDR_GEN_MODE, b"\1")))
    body = _link(0, _UP, _UP) + text(_IFNAME, name) + u32(_MASTER, bridge)
    return [
        Request(_NEWLINK, 0, _link() + text(_IFNAME, name) + mute, f"have {name} find no address", frozenset({EAFNOSUPPORT})),
        Request(_NEWLINK, 0, body, f"plug {name} into its bridge"),
    ]


def reflect(index: int) -> Request:
    """Have a bridge's port send back what comes in by it and is for the same container."""
    body = _link(index, family=socket.AF_BRIDGE) + nested(_PROTINFO, attribute(_BRPORT_HAIRPIN, b"\1"))
    return Request(_SETLINK, 0, body, f"let port {index} reflect", frozenset({ENODEV}))


def isolate(index: int) -> Request:
    """Have a bridge's port exchange nothing with other such ports."""
    body = _link(index, family=socket.AF_BRIDGE) + nested(_PROTINFO, attribute(_BRPORT_ISOLATED, b"\1"))
    return Request(_SETLINK, 0, body, f"isolate port {index}")


def set_mtu(index: int, mtu: int) -> Request:
    """Give a link an MTU."""
    return Request(_NEWLINK, 0, _link(index) + u32(_MTU, mtu), f"set the MTU {mtu}")


def set_alias(name: str, alias: str) -> Request:
    """Give a link an alias."""
    return Request(
        _NEWLINK, 0, _link() + text(_IFNAME, name) + attribute(_IFALIAS, alias.encode()), f"name the owner of {name}"
    )


def link_by_index(index: int) -> Request:
    """A question about a link."""
    return Request(18, 0, _link(index), f"look at interface {index}")


def peer_of(link: bytes) -> int:
    """The number of the other end of a veth, from the answer to a question about one."""
    return next((int.from_bytes(value, sys.byteorder) for kind, value in attributes(link[16:]) if kind == 5), 0)


def packets_of(link: bytes) -> tuple[int, int]:
    """How many packets a link has received and sent, from the answer to a question about it."""
    found = next(value for kind, value in attributes(link[16:]) if kind == _STATS64)
    received, sent = struct.unpack_from("=QQ", found)
    return received, sent


def link_by_name(name: str) -> bytes:
    """The body of a question about a link."""
    return _link() + text(_IFNAME, name)


def add_macvlan(name: str, index: int, *, parent: int, namespace: int, mode: str, mtu: int) -> Request:
    """A macvlan on ``parent`` in another namespace."""
    data = u32(1, {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}[mode])
    return _add_on(parent, "macvlan", data, name=name, index=index, namespace=namespace, mtu=mtu)


def add_ipvlan(name: str, index: int, *, parent: int, namespace: int, mode: str, flag: str, mtu: int) -> Request:
    """An ipvlan on ``parent`` in another namespace; it has its parent's MAC address."""
    data = u16(1, {"l2": 0, "l3": 1, "l3s": 2}[mode]) + u16(2, {"bridge": 0, "private": 1, "vepa": 2}[flag])
    return _add_on(parent, "ipvlan", data, name=name, index=index, namespace=namespace, mtu=mtu)


def _add_on(parent: int, kind: str, data: bytes, *, name: str, index: int, namespace: int, mtu: int) -> Request:
    body = _link(index) + text(_IFNAME, name) + u32(5, parent) + u32(_NET_NS_FD, namespace) + (u32(_MTU, mtu) if mtu else b"")
    body += nested(_LINKINFO, text(_INFO_KIND, kind), nested(_INFO_DATA, data))
    return Request(_NEWLINK, CREATE | EXCLUSIVE, body, f"make {kind} {name}")


def add_kind(name: str, kind: str, parent: int = 0) -> Request:
    """An interface of a kind, on ``parent`` where that isn't 0."""
    body = _link() + text(_IFNAME, name) + (u32(5, parent) if parent else b"") + nested(_LINKINFO, text(_INFO_KIND, kind))
    return Request(_NEWLINK, CREATE | EXCLUSIVE, body, f"make {kind} {name}")


def set_address(index: int, mac: str) -> Request:
    """Give a link a MAC address."""
    return Request(_NEWLINK, 0, _link(index) + attribute(_ADDRESS, mac_bytes(mac)), f"set the MAC address {mac}")


def rename(index: int, name: str) -> Request:
    """Give a link that is down a name."""
    return Request(_NEWLINK, 0, _link(index) + text(_IFNAME, name), f"name interface {name}")


def move(index: int, namespace: int, name: str, number: int = 0) -> Request:
    """Put a link into another namespace under a name."""
    body = _link(index) + text(_IFNAME, name) + u32(_NET_NS_FD, namespace)
    if number:
        body += u32(49, number)  # IFLA_NEW_IFINDEX
    return Request(_NEWLINK, 0, body, f"move an interface as {name}")


def delete_link(index: int, name: str = "") -> Request:
    """Remove a link; one that is gone is fine."""
    body = _link(index) + (text(_IFNAME, name) if not index else b"")
    return Request(_DELLINK, 0, body, f"remove interface {name or index}", frozenset({ENODEV}))


def _address(index: int, interface: Interface) -> bytes:
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    packed = interface.ip.packed
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, _NODAD if family == socket.AF_INET6 else 0, 0, index)
    body += attribute(2, packed) + attribute(1, packed)
    if interface.version == 4 and interface.network.prefixlen < 31:
        body += attribute(4, interface.network.broadcast_address.packed)
    return body


def add_address(index: int, interface: Interface) -> Request:
    """Give a link an address. No duplicate is looked for: who gives out addresses knows."""
    return Request(_NEWADDR, CREATE | REPLACE, _address(index, interface), f"add address {interface}", frozenset({EEXIST}))


def remove_address(index: int, interface: Interface) -> Request:
    """Take an address from a link; one that is gone is fine."""
    tolerated = frozenset({EADDRNOTAVAIL, ENODEV})
    return Request(_DELADDR, 0, _address(index, interface), f"remove address {interface}", tolerated)


def _route(index: int, destination: Network, gateway: Address | None) -> bytes:
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    scope = _LINK_SCOPE if gateway is None and family == socket.AF_INET else 0
    body = struct.pack("=BBBBBBBBI", family, destination.prefixlen, 0, 0, _MAIN_TABLE, _STATIC, scope, _UNICAST, 0)
    if destination.prefixlen:
        body += attribute(1, destination.network_address.packed)
    if gateway is not None:
        body += attribute(5, gateway.packed)
    return body + u32(4, index)


def add_route(index: int, destination: Network, gateway: Address | None) -> Request:
    """Route ``destination`` by ``gateway``, or on the link, in the place of what was there."""
    what = f"add route {destination} by {gateway or 'the link'}"
    return Request(_NEWROUTE, CREATE | REPLACE, _route(index, destination, gateway), what)


def add_own_loopback(index: int) -> Request:
    """Have ``::1`` be the host's on this link as well; the kernel looks for a loopback address on the link alone."""
    body = struct.pack("=BBBBBBBBI", socket.AF_INET6, 128, 0, 0, _LOCAL_TABLE, _STATIC, 0, _LOCAL, 0)
    body += attribute(1, Address6("::1").packed) + u32(4, index) + u32(6, 2048)
    return Request(_NEWROUTE, CREATE | REPLACE, body, "add a route for ::1")


def remove_route(index: int, destination: Network, gateway: Address | None) -> Request:
    """Remove such a route; one that is gone is fine."""
    body = _route(index, destination, gateway)
    return Request(_DELROUTE, 0, body, f"remove route {destination}", frozenset({ESRCH, ENODEV}))
