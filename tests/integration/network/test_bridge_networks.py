"""Bridge networks: containers reach each other and the world as they should, and nothing else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from boxrun.bus import BusError, Code
from boxrun.container.spec import IDMapping, Namespace
from boxrun.network.contract import ConnectRequest, DisconnectRequest, Endpoint, NetworkFailure, Networks, Route
from support.networks import Lab, address, identity
from support.runtime import eventually
from support.topology import FAR, FAR6, HOST, HOST6, NEIGHBOUR, inside, listening, reach, unreachable


async def test_containers_reach_each_other_and_the_world(lab: Lab) -> None:
    network = await lab.network(1)
    one, two = await lab.on(network), await lab.on(network)
    with listening(two.path, 80) as server, listening(two.path, 80, v6=True, address=address(two, 1)) as server6:
        assert reach(one.path, address(two), 80, server) == address(one)
        assert reach(one.path, address(two, 1), 80, server6) == address(one, 1)
        assert reach(lab.host, address(two), 80, server) == "10.1.0.1"
    with listening(lab.far, 80) as server, listening(lab.far, 81, v6=True) as server6:
        assert reach(one.path, FAR, 80, server) == HOST
        assert reach(one.path, FAR6, 81, server6) == HOST6


async def test_networks_are_apart(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one, two = await lab.on(first), await lab.on(second)
    with listening(two.path, 80) as server, listening(two.path, 81, v6=True):
        assert unreachable(one.path, address(two), 80)
        assert unreachable(one.path, address(two, 1), 81)
        assert reach(lab.host, address(two), 80, server) == "10.2.0.1"


async def test_an_internal_network_has_no_outside(lab: Lab) -> None:
    network = await lab.network(1, internal=True)
    one, two = await lab.on(network), await lab.on(network)
    with listening(two.path, 80) as server, listening(lab.far, 80):
        assert reach(one.path, address(two), 80, server) == address(one)
        assert unreachable(one.path, FAR, 80)
        lab.net.ip(lab.net.neighbour, "route", "add", "10.1.0.0/16", "via", HOST)
        assert unreachable(lab.neighbour, address(two), 80)


async def test_without_icc_only_the_host_reaches_them(lab: Lab) -> None:
    network = await lab.network(1, icc=False)
    one, two = await lab.on(network), await lab.on(network)
    with listening(two.path, 80) as server, listening(lab.far, 81) as world:
        assert unreachable(one.path, address(two), 80)
        inside(one.path, lambda: None)
        # By way of the gateway it is no more than on the link.
        lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "route", "add", f"{address(two)}/32", "via", "10.1.0.1")
        assert unreachable(one.path, address(two), 80)
        assert reach(lab.host, address(two), 80, server) == "10.1.0.1"
        assert reach(one.path, FAR, 81, world) == HOST


async def test_unpublished_ports_are_not_reachable_from_outside(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network)
    lab.net.ip(lab.net.neighbour, "route", "add", "10.1.0.0/16", "via", HOST)
    lab.net.ip(lab.net.neighbour, "-6", "route", "add", "fd00:1::/64", "via", HOST6)
    with listening(one.path, 80), listening(one.path, 81, v6=True):
        assert unreachable(lab.neighbour, address(one), 80)
        assert unreachable(lab.neighbour, address(one, 1), 81)


@pytest.mark.parametrize("mode", ["nat-unprotected", "trusted"])
async def test_what_is_opened_is_reachable_by_the_containers_address(lab: Lab, mode: str) -> None:
    fields = {"trusted_interfaces": ("eth0",)} if mode == "trusted" else {"gateway_mode_v4": mode}
    network = await lab.network(1, **fields)
    one = await lab.on(network)
    lab.net.ip(lab.net.neighbour, "route", "add", "10.1.0.0/16", "via", HOST)
    with listening(one.path, 80) as server:
        assert reach(lab.neighbour, address(one), 80, server) == NEIGHBOUR


async def test_a_routed_network_opens_published_ports_and_translates_nothing(lab: Lab) -> None:
    network = await lab.network(1, gateway_mode_v4="routed", gateway_mode_v6="routed")
    one = await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"), ("tcp", 8080, 80, "::")))
    assert [port.host_port for port in one.reply.ports] == [0, 0]
    for node in (lab.net.neighbour, lab.net.router):
        lab.net.ip(node, "route", "add", "10.1.0.0/16", "via", HOST)
        lab.net.ip(node, "-6", "route", "add", "fd00:1::/64", "via", HOST6)
    with listening(one.path, 80) as server, listening(one.path, 81), listening(lab.far, 82) as far:
        assert reach(lab.far, address(one), 80, server) == FAR
        assert unreachable(lab.far, address(one), 81)
        assert unreachable(lab.neighbour, HOST, 8080)
        assert reach(one.path, FAR, 82, far) == address(one)
    with listening(one.path, 80, v6=True) as server:
        assert reach(lab.far, address(one, 1), 80, server) == FAR6


async def test_connecting_and_disconnecting_a_running_container(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one, two = await lab.on(first), await lab.on(second)
    endpoint = lab.endpoint(second, gateway_priority=5)
    bus = lab.supervisor.bus
    reply = await bus.unary(Networks.connect, ConnectRequest(container=one.id, endpoint=endpoint), timeout=10)
    assert [plugged.interface for plugged in reply.endpoints] == ["eth1"]
    with listening(two.path, 80) as server:
        assert reach(one.path, address(two), 80, server) == endpoint.addresses[0].partition("/")[0]
        assert "via 10.2.0.1" in lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "route", "show", "default")
        with pytest.raises(BusError) as caught:
            await bus.unary(Networks.connect, ConnectRequest(container=one.id, endpoint=endpoint), timeout=10)
        assert caught.value.code is Code.ALREADY_EXISTS
        await bus.unary(Networks.disconnect, DisconnectRequest(container=one.id, endpoint=endpoint.id), timeout=10)
        assert "via 10.1.0.1" in lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "route", "show", "default")
        assert unreachable(one.path, address(two), 80)


async def test_an_endpoint_is_as_it_was_asked_for(lab: Lab) -> None:
    network = await lab.network(1, mtu=1400, pool=1)
    endpoint = lab.endpoint(
        network,
        interface="front",
        mac="02:00:00:00:00:99",
        sysctls={"net.ipv4.conf.IFNAME.log_martians": "1"},
        routes=(Route(destination="203.0.113.0/24", gateway="10.1.0.9"),),
    )
    one = await lab.container(endpoint)
    shown = lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "-o", "link", "show", "front")
    assert "mtu 1400" in shown
    assert "02:00:00:00:00:99" in shown
    assert "203.0.113.0/24 via 10.1.0.9" in lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "route")
    assert inside(one.path, lambda: Path("/proc/sys/net/ipv4/conf/front/log_martians").read_text()) == "1\n"
    assert "mtu 1400" in lab.net.ip(lab.net.host, "link", "show", "bxt1")


async def test_without_an_ipv6_address_there_is_none(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network)
    assert "inet6" not in lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "address", "show", "eth0")


async def test_what_cannot_be_had_is_refused_and_leaves_nothing(lab: Lab) -> None:
    network = await lab.network(1)
    before = lab.kernel_state()
    bad = (
        lab.endpoint(network, interface="a/b"),
        lab.endpoint(network, sysctls={"net.ipv4.ip_forward": "1"}),
        lab.endpoint(network, sysctls={"net.ipv4.conf.IFNAME.no_such": "1"}),
        lab.endpoint(network, gateway_v4="203.0.113.1"),
    )
    for endpoint in bad[:3]:
        with pytest.raises(BusError) as caught:
            await lab.container(endpoint)
        assert caught.value.code is Code.FAILED_PRECONDITION, endpoint
    with pytest.raises(BusError) as caught:
        await lab.container(Endpoint(id=identity(), network="0" * 64))
    assert caught.value.code is Code.NOT_FOUND
    await eventually(lambda: lab.kernel_state() == before, f"{lab.kernel_state()} instead of {before}")


async def test_a_bridge_of_somebody_elses_is_left_alone(lab: Lab) -> None:
    lab.net.ip(lab.net.host, "link", "add", "bxt1", "type", "bridge")
    with pytest.raises(BusError) as caught:
        await lab.network(1)
    detail = caught.value.detail(NetworkFailure)
    assert detail is not None
    assert detail.kind == "interface"
    network = await lab.network(1, foreign=True)
    await lab.remove(network)
    assert "bxt1" in lab.kernel_state()
    lab.net.ip(lab.net.host, "link", "delete", "bxt1")


MAPPING = (IDMapping(inside=0, outside=200000, size=65536),)


async def test_a_user_namespace_owns_its_network_namespace(lab: Lab) -> None:
    network = await lab.network(1)
    remapped = {"namespaces": (Namespace(kind="user"),), "uid_mappings": MAPPING, "gid_mappings": MAPPING}
    one = await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"),), **remapped)
    two = await lab.on(network)
    fd = os.open(one.path, os.O_RDONLY)
    try:
        owner = fcntl.ioctl(fd, 0xB701)  # NS_GET_USERNS
        assert os.fstat(owner).st_ino == os.stat(f"/proc/{one.pid}/ns/user").st_ino != os.stat("/proc/self/ns/user").st_ino
        os.close(owner)
    finally:
        os.close(fd)
    with listening(one.path, 80) as server:
        assert reach(two.path, address(one), 80, server) == address(two)
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        await lab.supervisor.kill()
        await lab.supervisor.start()
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
    second = await lab.network(2)
    await lab.supervisor.bus.unary(
        Networks.connect, ConnectRequest(container=one.id, endpoint=lab.endpoint(second)), timeout=10
    )
    assert "10.2.0.2/16" in lab.net.run(lab.net.host, "nsenter", f"--net={one.path}", "ip", "address", "show", "eth1")


async def test_a_user_namespace_whose_network_can_not_be_leaves_nothing(lab: Lab) -> None:
    network = await lab.network(1)
    remapped = {"namespaces": (Namespace(kind="user"),), "uid_mappings": MAPPING, "gid_mappings": MAPPING}
    with listening(lab.host, 8080):
        before = lab.kernel_state()
        with pytest.raises(BusError, match="address already in use"):
            await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"),), **remapped)
        state = lab.kernel_state
        await eventually(lambda: state() == before, f"{state()} instead of {before}")
