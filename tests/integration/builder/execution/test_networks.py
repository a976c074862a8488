"""Commands on networks: which they are on, and whom they find there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from boxship.types.containers import CreateRequest
from boxship.types.host import HostConfig
from boxship.types.networks import NetworkCreateRequest
from boxshipd.errors import InvalidParameter
from boxshipd.networks.pools import AddressPool
from boxshipd.networks.settings import NetworkSettings
from support.building import Building
from support.daemon import Slot
from support.engine import IMAGE, Engine, running_engine


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    """An engine with a default bridge of its own."""
    with closing(Slot()) as slot:
        pools = (AddressPool(base=slot.subnets, size=24),)
        async with running_engine(
            home, network=NetworkSettings(bridge=f"bxt{slot.number}", default_address_pools=pools)
        ) as engine:
            yield engine


async def test_a_command_is_on_the_default_bridge_as_any_container(building: Building) -> None:
    await building.run("ip -o -4 addr show eth0 | wc -l; cat /etc/hosts | tail -1; cat /etc/resolv.conf", network="default")
    printed = building.printed[1].decode().splitlines()
    bridge = building.engine.networks.find("bridge")
    assert printed[0] == "1"
    address, name = printed[1].split("\t")
    assert name == "buildkitsandbox"
    assert address.startswith(bridge.subnets[0].pool.rpartition(".")[0])
    # The network knows nobody any more, and tells of nobody.
    await building.engine.until(lambda: not building.engine.networks.leases.members(bridge), "its address is free")


async def test_a_command_finds_containers_on_a_network_by_name(building: Building) -> None:
    engine = building.engine
    await engine.networks.create(NetworkCreateRequest(name="own"))
    request = CreateRequest(image=IMAGE, cmd=["sleep", "1000"], host_config=HostConfig(network_mode="own"))
    server = (await engine.containers.create("server", request)).id
    await engine.containers.start(server)
    await building.run("ping -c 1 -W 10 server | head -1; cat /etc/resolv.conf", network="own", extra_hosts=("other:10.9.8.7",))
    printed = building.printed[1].decode()
    assert printed.startswith("PING server (")
    assert "nameserver 127.0.0.11" in printed
    # As BuildKit has it for none at all, and as containers share a network.
    await building.run("hostname; ip -o -4 addr show eth0 | wc -l", network=f"container:{server}")
    assert building.printed[1].decode().splitlines()[-1] == "1"
    await engine.containers.remove(server, force=True)
    await engine.networks.remove("own")


async def test_a_command_without_a_network_has_loopback_only_and_the_hosts_if_it_may(building: Building) -> None:
    await building.run("ip -o link | wc -l", network="none")
    before = set(os.listdir("/sys/class/net"))
    await building.run("ip -o link | cut -d: -f2", network="host", entitlements=frozenset({"network.host"}))
    printed = building.printed[1].decode().split()
    assert printed[0] == "1"
    # Those that come or go meanwhile are other tests'.
    assert before & set(os.listdir("/sys/class/net")) <= {name.partition("@")[0] for name in printed[1:]}
    with pytest.raises(InvalidParameter, match="network none-such not found"):
        await building.run("true", network="none-such")
