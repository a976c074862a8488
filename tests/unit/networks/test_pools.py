"""Subnets out of the daemon's pools."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from boxshipd.errors import Forbidden, InvalidParameter
from boxshipd.networks.host_routes import connected_networks
from boxshipd.networks.pools import DEFAULT_POOLS, AddressPool, check_overlap, free_subnet, local_pool, validate_pools
from hypothesis import given, settings
from hypothesis import strategies as st


def test_dockers_order():
    taken = []
    for _ in range(31):
        taken.append(free_subnet(DEFAULT_POOLS, 4, taken))
    assert [str(subnet) for subnet in taken[:16]] == [f"172.{n}.0.0/16" for n in range(17, 32)] + ["192.168.0.0/20"]
    with pytest.raises(InvalidParameter, match=r"^all predefined address pools have been fully subnetted$"):
        free_subnet(DEFAULT_POOLS[:1], 4, taken)


def test_what_the_host_is_connected_to_is_left_alone():
    taken = [ip_network("172.17.9.0/24"), ip_network("172.18.0.0/15")]
    assert str(free_subnet(DEFAULT_POOLS, 4, taken)) == "172.20.0.0/16"


def test_a_large_network_inside_of_which_others_lie():
    taken = [ip_network("10.0.0.0/8"), ip_network("10.0.3.0/24"), ip_network("11.0.0.0/25")]
    assert str(free_subnet([AddressPool("10.0.0.0/7", 24)], 4, taken)) == "11.0.1.0/24"


def test_a_daemon_has_its_own_ipv6():
    one, other = local_pool("one"), local_pool("other")
    assert one == local_pool("one") != other
    assert ip_network(one.base).subnet_of(ip_network("fd00::/8"))
    assert str(free_subnet([one], 6, [ip_network(one.base.replace("/48", "/64"))])).endswith(":1::/64")


def test_overlap():
    with pytest.raises(Forbidden, match=r"^invalid pool request: Pool overlaps with other one on this address space$"):
        check_overlap(ip_network("10.0.0.0/16"), [ip_network("10.0.9.0/24")])
    check_overlap(ip_network("10.0.0.0/16"), [ip_network("10.1.0.0/24"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    "pools",
    [
        [AddressPool("10.0.0.0/16", 8)],
        [AddressPool("10.0.0.0/16", 33)],
        [AddressPool("10.0.0.1/16", 24)],
        [AddressPool("10.0.0.0/16", 24), AddressPool("10.0.4.0/24", 24)],
    ],
)
def test_pools_that_cannot_be(pools):
    with pytest.raises(InvalidParameter):
        validate_pools(pools)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(18, 30)), max_size=30))
def test_a_subnet_never_overlaps_and_is_the_first_that_does_not(occupied):
    taken = [ip_network((f"10.5.{third}.0", size), strict=False) for third, size in occupied]
    free = [s for s in ip_network("10.5.0.0/16").subnets(new_prefix=24) if not any(s.overlaps(t) for t in taken)]
    if not free:
        with pytest.raises(InvalidParameter):
            free_subnet([AddressPool("10.5.0.0/16", 24)], 4, taken)
    else:
        assert free_subnet([AddressPool("10.5.0.0/16", 24)], 4, taken) == free[0]


def test_routes_as_the_kernel_prints_them(tmp_path):
    (tmp_path / "route").write_text(
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    (tmp_path / "ipv6_route").write_text(
        "fd000000000000000000000000000000 40 " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 00000001 00000000 00000001 eth0\n"
        "fe800000000000000000000000000000 40 " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 00000001 00000000 00000001 eth0\n"
        "00000000000000000000000000000000 00 " + "0" * 32 + " 00 " + "0" * 32 + " 00000100 00000001 00000000 00000001 lo\n"
    )
    assert [str(n) for n in connected_networks(str(tmp_path))] == ["172.17.0.0/16", "fd00::/64"]
    assert connected_networks(str(tmp_path / "nothing")) == []
