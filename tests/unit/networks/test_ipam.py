"""Addresses: in Docker's order, each to one container at a time, none lost."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

import pytest
from boxshipd.errors import Forbidden, InvalidParameter, Unavailable
from boxshipd.networks.ipam import Addresses, first_address
from boxshipd.networks.model import Network, Subnet
from hypothesis import given, settings
from hypothesis import strategies as st


def network(*subnets: Subnet, **fields) -> Network:
    return Network(id="a" * 64, name="n", created=1, driver="bridge", subnets=subnets, **fields)


def test_the_lowest_is_given_first_and_the_gateway_never():
    addresses = Addresses(network(Subnet(pool="10.1.0.0/29", gateway="10.1.0.1", aux={"router": "10.1.0.3"})))
    assert [addresses.allocate(4) for _ in range(4)] == ["10.1.0.2/29", "10.1.0.4/29", "10.1.0.5/29", "10.1.0.6/29"]
    with pytest.raises(Unavailable, match=r"no available IPv4 addresses on this network's address pools: n \(aaaa"):
        addresses.allocate(4)
    addresses.release("10.1.0.4/29")
    assert addresses.allocate(4) == "10.1.0.4/29"


def test_a_family_that_the_network_has_not_is_no_error():
    assert Addresses(network(Subnet(pool="10.1.0.0/29"))).allocate(6) == ""


def test_static_addresses():
    addresses = Addresses(network(Subnet(pool="10.1.0.0/24", range="10.1.0.128/25", gateway="10.1.0.1")))
    assert addresses.allocate(4, "10.1.0.9") == "10.1.0.9/24"
    with pytest.raises(Forbidden, match=r"^Address already in use$"):
        addresses.allocate(4, "10.1.0.9")
    with pytest.raises(Forbidden):
        addresses.allocate(4, "10.1.0.1")
    with pytest.raises(InvalidParameter, match=r"It does not belong to any of this network's subnets"):
        addresses.allocate(4, "10.2.0.1")
    assert addresses.allocate(4) == "10.1.0.128/24"


def test_a_container_gets_its_address_again_where_it_is_free():
    addresses = Addresses(network(Subnet(pool="10.1.0.0/24", gateway="10.1.0.1")))
    assert addresses.allocate(4, hint="10.1.0.7") == "10.1.0.7/24"
    assert addresses.allocate(4, hint="10.1.0.7") == "10.1.0.2/24"
    assert addresses.allocate(4, hint="10.9.0.7") == "10.1.0.3/24"


def test_ipv6_keeps_the_routers_anycast_address_free():
    addresses = Addresses(network(Subnet(pool="fd00::/64")))
    assert addresses.allocate(6) == "fd00::1/64"


@pytest.mark.parametrize(
    ("pool", "expected"), [("10.0.0.0/31", ["10.0.0.0/31", "10.0.0.1/31"]), ("10.0.0.7/32", ["10.0.0.7/32"])]
)
def test_subnets_without_a_broadcast(pool, expected):
    addresses = Addresses(network(Subnet(pool=pool)))
    assert [addresses.allocate(4) for _ in expected] == expected


def test_the_gateway_is_the_ranges_first():
    assert first_address(Subnet(pool="10.0.0.0/16")) == "10.0.0.1"
    assert first_address(Subnet(pool="10.0.0.0/16", range="10.0.5.0/24")) == "10.0.5.0"
    assert first_address(Subnet(pool="10.0.0.0/29", aux={"x": "10.0.0.1"})) == "10.0.0.2"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["any", "give", "hint", "static"]), st.integers(0, 40)), max_size=120))
def test_no_address_is_ever_two_containers_and_none_is_lost(acts):
    pool = ip_network("10.7.0.0/27")
    addresses = Addresses(network(Subnet(pool=str(pool), gateway="10.7.0.1")))
    held: list[str] = []
    for act, number in acts:
        if act == "give":
            if held:
                addresses.release(held.pop(number % len(held)))
            continue
        wanted = str(pool.network_address + number % 32)
        try:
            got = addresses.allocate(4, wanted if act == "static" else "", wanted if act == "hint" else "")
        except (Forbidden, Unavailable):
            assert act == "static" or len(held) == 29
            continue
        assert got not in held
        assert ip_interface(got).ip not in {pool.network_address, pool.broadcast_address, ip_interface("10.7.0.1").ip}
        held.append(got)
    for address in held:
        addresses.release(address)
    assert len({addresses.allocate(4) for _ in range(29)}) == 29
