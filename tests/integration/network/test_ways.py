"""What ``--link`` opens on a network that keeps its containers apart."""

from __future__ import annotations

import pytest
from boxrun.bus import BusError
from boxrun.network.contract import PlugRequest, Way
from support.networks import Lab, Plugged, address
from support.topology import ask_udp, listening, reach, unreachable


async def linked(lab: Lab, network, *ways: Way) -> Plugged:
    """A container with ways."""
    spec = lab.supervisor.spec("/bin/sleep", "1000")
    request = PlugRequest(container=spec.id, endpoints=(lab.endpoint(network),), ways=ways)
    reply = await lab.supervisor.launch(spec, sandbox=request)
    assert reply.sandbox is not None
    return Plugged(spec, reply.pid, reply.sandbox, request)


async def test_one_port_is_open_to_one_container(lab: Lab) -> None:
    network = await lab.network(1, icc=False)
    target, other = await lab.on(network), await lab.on(network)
    ways = (Way(protocol="tcp", address=address(target), port=80), Way(protocol="udp", address=address(target), port=53))
    one = await linked(lab, network, *ways)
    with (
        listening(target.path, 80) as server,
        listening(target.path, 81),
        listening(target.path, 53, udp=True) as datagrams,
        listening(one.path, 80),
    ):
        for _ in range(3):
            assert reach(one.path, address(target), 80, server) == address(one)
            assert ask_udp(one.path, address(target), 53, datagrams) == address(one)
        assert unreachable(one.path, address(target), 81)
        assert unreachable(other.path, address(target), 80)
        assert unreachable(target.path, address(one), 80)
        await lab.supervisor.kill()
        await lab.supervisor.start()
        assert reach(one.path, address(target), 80, server) == address(one)
    await lab.stop(target)
    await lab.unplug(target.id)
    # The next one that has the address is somebody else.
    again = await lab.container(lab.endpoint(network, addresses=target.request.endpoints[0].addresses))
    with listening(again.path, 80):
        assert unreachable(one.path, address(again), 80)


async def test_a_way_to_nobody_is_refused(lab: Lab) -> None:
    network = await lab.network(1, icc=False)
    with pytest.raises(BusError, match=r"nobody has the address 10\.1\.0\.99"):
        await linked(lab, network, Way(protocol="tcp", address="10.1.0.99", port=80))
