"""The firewall's rules and elements as bytes, without a kernel."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from boxrun.network import firewall_rules as rules
from boxrun.network import links, nftables
from boxrun.network.contract import Endpoint, Listener, NetworkSpec
from boxrun.network.errors import NetworkError
from boxrun.network.nftables import Batch
from boxrun.network.sandboxes import Cable, gateways

NETWORK = NetworkSpec(id="a" * 64, name="n", interface="br0", subnets=("10.0.0.0/16",), addresses=("10.0.0.1/16",))


def test_a_published_port_is_one_element() -> None:
    name, key, value = rules.published("tcp", ip_address("192.0.2.1"), 8080, ip_address("10.0.0.2"), 80)
    assert (name, key) == ("ports4", b"\x06\0\0\0" + bytes([192, 0, 2, 1]) + b"\x1f\x90\0\0")
    assert value == nftables.value_data(bytes([10, 0, 0, 2]) + b"\0\x50\0\0")
    name, key, _ = rules.published("udp", ip_address("::"), 53, ip_address("fd00::2"), 53)
    assert (name, key) == ("any6", b"\x11\0\0\0\0\x35\0\0")
    assert rules.guarded(Listener(address="0.0.0.0", port=2375))[:2] == ("guarded", b"\x09\x47")


def test_what_is_not_translated_for_a_bridge_is_an_element_as_well() -> None:
    bridge, tcp, port = b"br0" + bytes(13), b"\x06\0\0\0", b"\x1f\x90\0\0"
    assert rules.apart("tcp", ip_address("0.0.0.0"), 8080, "br0") == ("apart_any4", bridge + tcp + port, b"")
    one = rules.apart("tcp", ip_address("192.0.2.1"), 8080, "br0")
    assert one == ("apart4", bridge + tcp + bytes([192, 0, 2, 1]) + port, b"")
    assert rules.apart("udp", ip_address("::"), 53, "br0")[0] == "apart_any6"


def verdicts(network: NetworkSpec) -> list[bytes]:
    """The last expression of each rule about what is sent to a network."""
    return [rule[-1] for rule in rules.incoming_rules(network)]


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected", "routed", "isolated"])
@pytest.mark.parametrize("icc", [True, False])
@pytest.mark.parametrize("internal", [True, False])
def test_what_nothing_lets_in_is_dropped(mode: str, icc: bool, internal: bool) -> None:
    network = NetworkSpec(id="a" * 64, interface="br0", icc=icc, internal=internal, gateway_mode_v4=mode, gateway_mode_v6=mode)  # type: ignore[arg-type]
    assert rules.incoming_rules(network)[-1] == [nftables.verdict("drop")]
    accepted = verdicts(network).count(nftables.verdict("accept"))
    # Without icc: answers, what is published, and ways.
    own = 1 if icc else 3
    outside = {"nat": 3, "nat-unprotected": 3, "routed": 5, "isolated": 1}[mode]
    assert accepted == own + (0 if internal else outside)


def test_only_nat_modes_masquerade() -> None:
    def translates(network: NetworkSpec) -> int:
        return sum(nftables.masquerade() in rule for rule in rules.leaving_rules(network))

    routed = NetworkSpec(id="a" * 64, interface="br0", gateway_mode_v4="routed", masquerade_v6=False)
    assert translates(NETWORK) - translates(routed) == 2


def test_the_number_of_rules_does_not_depend_on_ports() -> None:
    batch = rules.skeleton("boxship-test")
    count = len(batch.requests)
    elements = [rules.published("tcp", ip_address("0.0.0.0"), port, ip_address("10.0.0.2"), port) for port in range(1, 1001)]
    rules.add_elements(batch, elements)
    assert len(batch.requests) - count == 3
    assert max(len(request.body) for request in batch.requests) < 65535


def test_a_batch_names_its_table_in_every_request() -> None:
    batch = Batch("inet", "boxship-test")
    rules.add_network(batch, NETWORK)
    assert all(b"boxship-test\0" in request.body for request in batch.requests)


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 16, "", ".."])
def test_interfaces_have_interfaces_names(name: str) -> None:
    with pytest.raises(NetworkError):
        links.check(NetworkSpec(id="a" * 64, interface=name))


def test_an_address_keeps_its_mac() -> None:
    mac = links.fixed_mac("n", "10.0.0.2/16")
    assert mac == links.fixed_mac("n", "10.0.0.2/16") != links.fixed_mac("m", "10.0.0.2/16")
    assert int(mac[:2], 16) & 3 == 2


def test_the_default_route_goes_by_priority_and_then_by_name() -> None:
    def cable(name: str, priority: int, gateway: str = "10.0.0.1") -> Cable:
        endpoint = Endpoint(id=name, network=name, addresses=("10.0.0.2/16",), gateway_v4=gateway, gateway_priority=priority)
        return Cable(endpoint, NetworkSpec(id=name, name=name), 2, "eth0", "")

    cables = {one.endpoint.id: one for one in (cable("c", 0), cable("b", 0), cable("a", -1), cable("z", 9, ""))}
    assert [found.endpoint.id for found, _ in gateways(cables, 4)] == ["b", "c", "a"]
    assert gateways(cables, 6) == []
