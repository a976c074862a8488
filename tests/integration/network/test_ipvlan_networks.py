"""ipvlan networks where the kernel has them; where it hasn't, they are refused in words that say so."""

from __future__ import annotations

import pytest
from boxrun.bus import BusError
from boxrun.network.contract import Endpoint, NetworkFailure, Networks, NetworkSpec, Nothing
from support.networks import Lab, identity
from support.topology import NEIGHBOUR, listening, reach


async def ipvlan(lab: Lab, interface: str = "eth0", **fields: str) -> NetworkSpec:
    """A network on an interface; the test is over where this kernel has none."""
    spec = NetworkSpec(id=identity(), name="ip", driver="ipvlan", interface=interface, subnets=("192.0.2.0/24",), **fields)
    features = await lab.supervisor.bus.unary(Networks.features, Nothing(), timeout=30)
    try:
        await lab.supervisor.bus.unary(Networks.ensure, spec, timeout=10)
    except BusError as error:
        detail = error.detail(NetworkFailure)
        assert detail is not None
        assert (detail.kind, detail.message) == ("unsupported", "network ip: this kernel has no ipvlan driver")
        assert features.refusals["ipvlan"] == "this kernel has no ipvlan driver"
        assert interface in [*lab.kernel_state(), ""]
        pytest.skip(detail.message)
    assert "ipvlan" not in features.refusals
    return spec


def endpoint(network: NetworkSpec, number: int, **fields: str) -> Endpoint:
    """An endpoint on the link."""
    addresses = (f"192.0.2.{number}/24",)
    return Endpoint(id=identity(), network=network.id, addresses=addresses, gateway_v4="192.0.2.254", **fields)


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
async def test_containers_are_on_the_link(lab: Lab, mode: str) -> None:
    network = await ipvlan(lab, mode=mode)
    one, two = await lab.container(endpoint(network, 101)), await lab.container(endpoint(network, 102))
    with listening(lab.neighbour, 80) as server, listening(two.path, 80) as other:
        assert reach(one.path, "192.0.2.102", 80, other) == "192.0.2.101"
        if mode == "l2":
            assert reach(one.path, NEIGHBOUR, 80, server) == "192.0.2.101"
            assert reach(lab.neighbour, "192.0.2.102", 80, other) == NEIGHBOUR
    routes = lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "route", "show", "default")
    assert routes.split()[:3] == (["default", "via", "192.0.2.254"] if mode == "l2" else ["default", "dev", "eth0"])
    await lab.remove(network)
    assert "eth0" in lab.kernel_state()


async def test_a_mac_address_can_not_be_had(lab: Lab) -> None:
    network = await ipvlan(lab, "", flag="private")
    with pytest.raises(BusError, match="ipvlan interfaces do not support custom mac address assignment"):
        await lab.container(endpoint(network, 101, mac="02:00:00:00:00:01"))
