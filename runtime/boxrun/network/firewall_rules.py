"""What the firewall's table holds: pure descriptions, from the networks and ports to the rules.

One table of our own (``inet boxship-...``); nobody else's rules are touched, an ``accept`` of ours ends nobody else's chains.
Published ports are elements of maps, looked at by a handful of rules, so a packet's way is as long with a thousand of them.

    guard        prerouting, raw    127.0.0.0/8 is not for containers, whatever the bridge lets through (route_localnet)
    arriving     prerouting, nat    published ports of packets that come in
    local        output, nat        the same for those of the host itself
    leaving      postrouting, nat   masquerading, by the network that a packet comes from
    forward      forward, filter    who may reach which network
    api          input, filter      containers don't reach the engine's own listeners, nor the relay from internal networks, nor
                                    anything of the host from isolated ones
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, Literal

from boxrun.network import nftables as nft
from boxrun.network.contract import Listener, NetworkSpec, Protocol
from boxrun.network.nftables import REGISTER, Batch, Expression, concatenated

Address = IPv4Address | IPv6Address
Element = tuple[str, bytes, bytes]
"""A set's name, a key, and the value's attribute."""

PROTOCOLS: Final[dict[Protocol, int]] = {"tcp": 6, "udp": 17, "sctp": 132}
_ESTABLISHED: Final = 2 | 4
NEW: Final = 8
_DNAT: Final = 1 << 5
_TCP, _ICMP, _ICMP6 = 6, 1, 58
_LOOPBACK4: Final = bytes([127, 0, 0, 0])
_LOOPBACK6: Final = IPv6Address("::1").packed

RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100


def _key(*parts: bytes) -> bytes:
    """A concatenation, each part in registers of its own."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _port(number: int) -> bytes:
    return struct.pack("!H", number)


def published(protocol: Protocol, host: Address, host_port: int, container: Address, container_port: int) -> Element:
    """The element of a published port."""
    number, value = bytes([PROTOCOLS[protocol]]), nft.value_data(_key(container.packed, _port(container_port)))
    if host.is_unspecified:
        return f"any{host.version}", _key(number, _port(host_port)), value
    return f"ports{host.version}", _key(number, host.packed, _port(host_port)), value


def way(protocol: Protocol, source: Address, target: Address, port: int) -> Element:
    """The element of a container's port that is open to another on their network without icc."""
    return "ways", _key(source.packed, target.packed, bytes([PROTOCOLS[protocol]]), _port(port)), b""


def relayed(protocol: Protocol, host_port: int) -> Element:
    """The element of a port of the host at which the relay listens for others than the host itself."""
    return "relayed", _key(bytes([PROTOCOLS[protocol]]), _port(host_port)), b""


def apart(protocol: Protocol, host: Address, host_port: int, bridge: str) -> Element:
    """The element of a published port that isn't translated for who is on this bridge."""
    here = interface(bridge), bytes([PROTOCOLS[protocol]])
    if host.is_unspecified:
        return f"apart_any{host.version}", _key(*here, _port(host_port)), b""
    return f"apart{host.version}", _key(*here, host.packed, _port(host_port)), b""


def opened(protocol: Protocol, container: Address, container_port: int) -> Element:
    """The element of a port that a routed network opens."""
    key = _key(bytes([PROTOCOLS[protocol]]), container.packed, _port(container_port))
    return f"open{container.version}", key, b""


def several(address: Address) -> Element:
    """The element of an address whose container is on several networks: it might answer by another way than it was asked."""
    return f"several{address.version}", address.packed, b""


def guarded(listener: Listener) -> Element:
    """The element of a listener of the engine's own."""
    address = ip_address(listener.address)
    if address.is_unspecified:
        return "guarded", _port(listener.port), b""
    return f"guarded{address.version}", _key(address.packed, _port(listener.port)), b""


def interface(name: str) -> bytes:
    """The key of an interface in a set."""
    return nft.interface_name(name)


def skeleton(table: str, *, gate: bool = False, forward_drop: bool = False, relayed_loopback: bool = False) -> Batch:
    """Table, sets and base chains.

    Args:
        table: its name.
        gate: only what comes from the set ``inside`` is translated; the rest meets the host's input rules first.
        forward_drop: nothing is forwarded between the interfaces in the set ``before``.
        relayed_loopback: what the host sends to ``::1`` is left to the relay.
    """
    batch = Batch("inet", table)
    batch.add_table()
    _sets(batch)
    batch.add_base_chain("guard", "filter", "prerouting", RAW)
    batch.add_base_chain("arriving", "nat", "prerouting", DSTNAT)
    batch.add_base_chain("local", "nat", "output", DSTNAT)
    batch.add_base_chain("leaving", "nat", "postrouting", SRCNAT)
    batch.add_base_chain("forward", "filter", "forward", FILTER)
    batch.add_base_chain("api", "filter", "input", FILTER)
    from_network = [nft.meta("iifname"), nft.lookup("networks")]
    to_network = [nft.meta("oifname"), nft.lookup("networks")]
    batch.rule("guard", nft.version(4), from_network, loopback_destination(), nft.verdict("drop"))
    if gate:
        outside = [nft.meta("iifname"), nft.lookup("networks", absent=True), nft.lookup("inside", absent=True)]
        batch.rule("arriving", outside, nft.verdict("return"))
    # A neighbour on a host's link is not the host.
    batch.rule("arriving", nft.version(4), loopback_destination(), nft.verdict("return"))
    if relayed_loopback:
        destination6 = [nft.address_field(6, "destination"), nft.compare(_LOOPBACK6)]
        batch.rule("local", nft.version(6), destination6, nft.verdict("return"))
    for rule in exceptions():
        batch.rule("arriving", rule)
    for chain in ("arriving", "local"):
        for rule in translations():
            batch.rule(chain, rule)
    batch.rule("leaving", nft.version(4), to_network, translated(), loopback_source(), nft.masquerade())
    source6 = [nft.address_field(6, "source"), nft.compare(_LOOPBACK6)]
    batch.rule("leaving", nft.version(6), to_network, translated(), source6, nft.masquerade())
    batch.rule("leaving", nft.meta("oifname"), nft.verdict_map("entering_networks"))
    batch.rule("leaving", nft.meta("iifname"), nft.verdict_map("leaving_networks"))
    batch.rule("forward", nft.meta("iifname"), nft.verdict_map("from_networks"))
    batch.rule("forward", nft.meta("oifname"), nft.verdict_map("to_networks"))
    if forward_drop:
        old = [nft.meta("iifname"), nft.lookup("before"), nft.meta("oifname"), nft.lookup("before")]
        batch.rule("forward", old, nft.verdict("drop"))
    for version in (4, 6):
        # The host has no address there, but would take a packet for one that it has elsewhere.
        isolated = [nft.meta("iifname"), nft.lookup(f"isolated{version}")]
        batch.rule("api", nft.version(version), isolated, nft.verdict("drop"))
    _, by_port = port_lookups(4)
    inner = [nft.meta("iifname"), nft.lookup("internal")]
    batch.rule("api", inner, by_port, nft.lookup("relayed"), nft.verdict("drop"))
    port = nft.port_field("destination", REGISTER)
    batch.rule("api", from_network, nft.protocol(_TCP), port, nft.lookup("guarded"), nft.reset())
    for version in (4, 6):
        behind = REGISTER + (1 if version == 4 else 4)
        field = [nft.address_field(version, "destination"), nft.port_field("destination", behind)]
        batch.rule(
            "api", from_network, nft.version(version), nft.protocol(_TCP), field, nft.lookup(f"guarded{version}"), nft.reset()
        )
    return batch


def _sets(batch: Batch) -> None:
    for version in (4, 6):
        size, address = (4, "address4") if version == 4 else (16, "address6")
        value, values = size + 4, concatenated(address, "port")
        batch.add_set(f"ports{version}", size + 8, concatenated("protocol", address, "port"), value, values)
        batch.add_set(f"any{version}", 8, concatenated("protocol", "port"), value, values)
        batch.add_set(f"apart{version}", size + 24, concatenated("interface", "protocol", address, "port"))
        batch.add_set(f"apart_any{version}", 24, concatenated("interface", "protocol", "port"))
        batch.add_set(f"open{version}", size + 8, concatenated("protocol", address, "port"))
        batch.add_set(f"several{version}", size, concatenated(address))
        batch.add_set(f"guarded{version}", size + 4, concatenated(address, "port"))
    batch.add_set("guarded", 2, concatenated("port"))
    batch.add_set("relayed", 8, concatenated("protocol", "port"))
    batch.add_set("ways", 16, concatenated("address4", "address4", "protocol", "port"))
    for name in ("networks", "internal", "isolated4", "isolated6", "inside", "before"):
        batch.add_set(name, 16, concatenated("interface"))
    for name in ("entering_networks", "leaving_networks", "from_networks", "to_networks"):
        batch.add_set(name, 16, concatenated("interface"), verdicts=True)


def loopback_destination() -> list[Expression]:
    """Go on only for 127.0.0.0/8, the packet being IPv4."""
    return [nft.address_field(4, "destination"), nft.mask(bytes([255, 0, 0, 0])), nft.compare(_LOOPBACK4)]


def loopback_source() -> list[Expression]:
    """Go on only for packets from 127.0.0.0/8, the packet being IPv4."""
    return [nft.address_field(4, "source"), nft.mask(bytes([255, 0, 0, 0])), nft.compare(_LOOPBACK4)]


def translated() -> list[Expression]:
    """Go on only if the connection goes to a published port."""
    return nft.conntrack("status", _DNAT)


def port_lookups(version: int, register: int = REGISTER) -> tuple[list[Expression], list[Expression]]:
    """Registers filled with the keys of ``ports`` and of ``any``; what is behind them is to look them up."""
    words = 1 if version == 4 else 4
    exact = [
        nft.meta("l4proto", register),
        nft.address_field(version, "destination", register + 1),
        nft.port_field("destination", register + 1 + words),
    ]
    return exact, [nft.meta("l4proto", register), nft.port_field("destination", register + 1)]


def translations() -> list[list[Expression]]:
    """The rules that translate what goes to a published port of the host."""
    rules = []
    for version in (4, 6):
        words = 1 if version == 4 else 4
        exact, anywhere = port_lookups(version)
        nat = nft.destination_nat(version, REGISTER, REGISTER + words)
        head = [*nft.version(version), *nft.local_destination()]
        rules.append([*head, *exact, nft.lookup(f"ports{version}", to=REGISTER), nat])
        rules.append([*head, *anywhere, nft.lookup(f"any{version}", to=REGISTER), nat])
    return rules


def exceptions() -> list[list[Expression]]:
    """The rules that leave what isn't translated for who is on a bridge to the host."""
    rules = []
    for version in (4, 6):
        for name, fields in zip(("apart", "apart_any"), port_lookups(version, REGISTER + 4), strict=True):
            place = [nft.meta("iifname"), *fields, nft.lookup(f"{name}{version}")]
            rules.append([*nft.version(version), *place, nft.verdict("return")])
    return rules


def chains_of(network: NetworkSpec) -> tuple[str, str, str, str]:
    """The names of a network's chains."""
    name = network.interface
    return f"from-{name}", f"to-{name}", f"leaving-{name}", f"entering-{name}"


def network_elements(network: NetworkSpec) -> list[Element]:
    """The elements by which packets find a network's chains."""
    name = nft.interface_name(network.interface)
    outgoing, incoming, leaving, entering = chains_of(network)
    kinds = {
        "internal": network.internal,
        "isolated4": network.gateway_mode_v4 == "isolated",
        "isolated6": network.gateway_mode_v6 == "isolated",
    }
    return [
        *((kind, name, b"") for kind, so in kinds.items() if so),
        ("entering_networks", name, nft.jump_data(entering)),
        ("networks", name, b""),
        ("from_networks", name, nft.jump_data(outgoing)),
        ("to_networks", name, nft.jump_data(incoming)),
        ("leaving_networks", name, nft.jump_data(leaving)),
    ]


def add_network(batch: Batch, network: NetworkSpec) -> None:
    """A network's chains with their rules, in the place of those that it had."""
    for chain in chains_of(network):
        batch.add_chain(chain)
        batch.flush_chain(chain)
    outgoing, incoming, leaving, entering = chains_of(network)
    for rule in entering_rules(network):
        batch.rule(entering, rule)
    for rule in outgoing_rules(network):
        batch.rule(outgoing, rule)
    for rule in incoming_rules(network):
        batch.rule(incoming, rule)
    for rule in leaving_rules(network):
        batch.rule(leaving, rule)


def outgoing_rules(network: NetworkSpec) -> list[list[Expression]]:
    """What a network's containers send to others than the host."""
    if not network.internal:
        return []
    return [[*nft.goes_to(network.interface, differs=True), nft.verdict("drop")]]


def incoming_rules(network: NetworkSpec) -> list[list[Expression]]:
    """What is sent to a network's containers by others than the host."""
    accept, drop = nft.verdict("accept"), nft.verdict("drop")
    inside = nft.comes_from(network.interface)
    established = nft.conntrack("state", _ESTABLISHED)
    if network.icc:
        rules = [[*inside, accept]]
    else:
        rules = [[*inside, *established, accept], [*inside, *translated(), accept]]
        rules += [[*inside, *nft.version(4), *_along_ways(), accept], [*inside, drop]]
    if network.internal:
        return [*rules, [drop]]
    rules.append([*established, accept])
    for version, mode in ((4, network.gateway_mode_v4), (6, network.gateway_mode_v6)):
        rules += [[*nft.version(version), *rule, accept] for rule in _entrances(version, mode)]
    rules += [[*nft.comes_from(name), accept] for name in network.trusted_interfaces]
    return [*rules, [drop]]


def _along_ways() -> list[Expression]:
    """Go on only along a way; the packet is IPv4."""
    return [
        nft.address_field(4, "source"),
        nft.address_field(4, "destination", REGISTER + 1),
        nft.meta("l4proto", REGISTER + 2),
        nft.port_field("destination", REGISTER + 3),
        nft.lookup("ways"),
    ]


def _entrances(version: int, mode: Literal["nat", "nat-unprotected", "routed", "isolated"]) -> list[list[Expression]]:
    if mode == "nat":
        return [translated()]
    if mode == "nat-unprotected":
        return [[]]
    if mode == "routed":
        exact, _ = port_lookups(version)
        return [[*exact, nft.lookup(f"open{version}")], nft.protocol(_ICMP if version == 4 else _ICMP6)]
    return []


def entering_rules(network: NetworkSpec) -> list[list[Expression]]:
    """Whose address packets to a network's containers get: those of its own that go by way of the host must come back by it.

    By their addresses: where they came in isn't known of packets that a bridge shows to the firewall (br_netfilter).
    """
    rules = []
    for subnet in map(ip_network, network.subnets):
        source = [nft.address_field(subnet.version, "source"), nft.mask(subnet.netmask.packed)]
        inside = [*nft.version(subnet.version), *translated(), *source, nft.compare(subnet.network_address.packed)]
        rules.append([*inside, nft.masquerade()])
    return rules


def leaving_rules(network: NetworkSpec) -> list[list[Expression]]:
    """Whose address packets from a network's containers get."""
    done = nft.verdict("return")
    same = nft.goes_to(network.interface)
    rules = [[*same, done]]
    ours = [nft.meta("oifname"), nft.lookup("networks")]
    for version in (4, 6):
        # Between networks of this host the real source is kept, unless the answer might take another way.
        destination = [nft.address_field(version, "destination"), nft.lookup(f"several{version}")]
        rules.append([*ours, *nft.version(version), *destination, nft.masquerade()])
    rules.append([*ours, done])
    families = (
        (4, network.gateway_mode_v4, network.masquerade_v4, network.snat_v4),
        (6, network.gateway_mode_v6, network.masquerade_v6, network.snat_v6),
    )
    for version, mode, wanted, source in families:
        if wanted and mode in ("nat", "nat-unprotected"):
            nat: Sequence[Expression] = nft.source_nat(ip_address(source)) if source else [nft.masquerade()]
            rules.append([*nft.version(version), *nat])
    return rules


def add_elements(batch: Batch, elements: Iterable[Element]) -> None:
    """Elements, set by set."""
    by_set: dict[str, list[tuple[bytes, bytes]]] = {}
    for name, key, value in elements:
        by_set.setdefault(name, []).append((key, value))
    for name, pairs in by_set.items():
        batch.add_elements(name, pairs)


def delete_elements(batch: Batch, elements: Iterable[Element]) -> None:
    """Remove elements, set by set."""
    by_set: dict[str, list[bytes]] = {}
    for name, key, _ in elements:
        by_set.setdefault(name, []).append(key)
    for name, keys in by_set.items():
        batch.delete_elements(name, keys)
