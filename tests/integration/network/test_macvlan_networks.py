"""macvlan networks: containers with a place on the host's own link."""

from __future__ import annotations

import pytest
from boxrun.bus import BusError
from boxrun.network.contract import Endpoint, NetworkFailure, Networks, NetworkSpec
from support.networks import Lab, identity
from support.topology import NEIGHBOUR, listening, reach


async def macvlan(lab: Lab, interface: str) -> NetworkSpec:
    """A network on an interface."""
    spec = NetworkSpec(id=identity(), name="mac", driver="macvlan", interface=interface, subnets=("192.0.2.0/24",))
    await lab.supervisor.bus.unary(Networks.ensure, spec, timeout=10)
    return spec


def endpoint(network: NetworkSpec, number: int) -> Endpoint:
    """An endpoint on the link."""
    return Endpoint(id=identity(), network=network.id, addresses=(f"192.0.2.{number}/24",), gateway_v4="192.0.2.254")


async def test_containers_are_on_the_link(lab: Lab) -> None:
    network = await macvlan(lab, "eth0")
    one, two = await lab.container(endpoint(network, 101)), await lab.container(endpoint(network, 102))
    with listening(lab.neighbour, 80) as server, listening(two.path, 80) as other:
        assert reach(one.path, NEIGHBOUR, 80, server) == "192.0.2.101"
        assert reach(one.path, "192.0.2.102", 80, other) == "192.0.2.101"
        assert reach(lab.neighbour, "192.0.2.102", 80, other) == NEIGHBOUR
    await lab.remove(network)
    assert "eth0" in lab.kernel_state()


async def test_a_vlan_is_made_and_removed_where_the_kernel_has_them(lab: Lab) -> None:
    try:
        network = await macvlan(lab, "eth0.10")
    except BusError as error:
        detail = error.detail(NetworkFailure)
        assert detail is not None
        assert detail.kind == "unsupported"
    else:
        assert "eth0.10" in lab.kernel_state()
        await lab.remove(network)
    assert "eth0.10" not in lab.kernel_state()


async def test_without_a_parent_containers_reach_each_other(lab: Lab) -> None:
    network = await macvlan(lab, "")
    one, two = await lab.container(endpoint(network, 101)), await lab.container(endpoint(network, 102))
    with listening(two.path, 80) as other:
        assert reach(one.path, "192.0.2.102", 80, other) == "192.0.2.101"


async def test_a_missing_parent_is_an_error(lab: Lab) -> None:
    with pytest.raises(BusError, match="no parent interface eth7"):
        await macvlan(lab, "eth7")


async def test_a_container_may_find_its_addresses_itself(lab: Lab) -> None:
    network = await macvlan(lab, "eth0")
    one = await lab.container(Endpoint(id=identity(), network=network.id))
    shown = lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "-o", "address", "show", "eth0")
    assert shown == ""
    lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "address", "add", "192.0.2.77/24", "dev", "eth0")
    with listening(lab.neighbour, 80) as server:
        assert reach(one.path, NEIGHBOUR, 80, server) == "192.0.2.77"
