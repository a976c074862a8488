"""macvlan and ipvlan interfaces: what the kernel is asked for, read by pyroute2; and what is refused before it is asked."""

from __future__ import annotations

import struct

import pytest
from boxrun.network import links, rtnetlink
from boxrun.network.contract import NetworkSpec
from boxrun.network.errors import NetworkError
from boxrun.network.netlink import Request
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg


def read(request: Request) -> tuple[dict[str, object], str, dict[str, object]]:
    """A request's attributes, its kind of link and that one's attributes."""
    message = ifinfmsg(struct.pack("=IHHII", 16 + len(request.body), request.kind, 0, 0, 0) + request.body)
    message.decode()
    assert message["index"] == 65
    found = dict(message["attrs"])
    info = dict(found.pop("IFLA_LINKINFO")["attrs"])
    return found, info["IFLA_INFO_KIND"], dict(info["IFLA_INFO_DATA"]["attrs"])


@pytest.mark.parametrize(("mode", "number"), [("l2", 0), ("l3", 1), ("l3s", 2)])
@pytest.mark.parametrize(("flag", "bits"), [("bridge", 0), ("private", 1), ("vepa", 2)])
def test_ipvlan(mode, number, flag, bits):
    request = rtnetlink.add_ipvlan("eth0", 65, parent=3, namespace=9, mode=mode, flag=flag, mtu=1400)
    attributes, kind, data = read(request)
    assert attributes == {"IFLA_IFNAME": "eth0", "IFLA_LINK": 3, "IFLA_NET_NS_FD": 9, "IFLA_MTU": 1400}
    assert (kind, data["IFLA_IPVLAN_MODE"]) == ("ipvlan", number)
    # Which pyroute2 doesn't know: its second attribute, of 16 bits (linux/if_link.h).
    assert struct.pack("=HHHxx", 6, 2, bits) in request.body


def test_macvlan():
    attributes, kind, data = read(rtnetlink.add_macvlan("eth1", 65, parent=4, namespace=8, mode="vepa", mtu=0))
    assert attributes == {"IFLA_IFNAME": "eth1", "IFLA_LINK": 4, "IFLA_NET_NS_FD": 8}
    assert (kind, data) == ("macvlan", {"IFLA_MACVLAN_MODE": "vepa"})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"driver": "ipvlan", "mode": "l4"}, "unknown ipvlan mode l4"),
        ({"driver": "ipvlan", "flag": "odd"}, "unknown ipvlan flag odd"),
        ({"driver": "macvlan", "mode": "l2"}, "unknown macvlan mode l2"),
    ],
)
def test_unknown_words_are_refused(fields, message):
    with pytest.raises(NetworkError, match=message):
        links.ensure(NetworkSpec(id="a" * 64, name="n", interface="lo", **fields))
