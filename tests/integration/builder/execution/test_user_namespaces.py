"""Commands in user namespaces of their own: their files are the layer's as if there were none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from boxrun.container.spec import IDMapping
from boxship.types.networks import NetworkCreateRequest
from boxshipd.builder.graph import Mount
from boxshipd.networks.pools import AddressPool
from boxshipd.networks.settings import NetworkSettings
from support.building import Building
from support.daemon import Slot
from support.engine import Engine, running_engine

_FIRST = 300000


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    """An engine whose containers have user namespaces."""
    ids = (IDMapping(inside=0, outside=_FIRST, size=65536),)
    with closing(Slot()) as slot:
        network = NetworkSettings(bridge="none", default_address_pools=(AddressPool(base=slot.subnets, size=24),))
        async with running_engine(home, network=network, uid_mappings=ids, gid_mappings=ids) as engine:
            yield engine


async def test_a_layer_has_the_ids_that_the_command_saw(building: Building) -> None:
    base = await building.base()
    other = await building.run("mkdir /src; echo text > /src/file; chown -R 5:6 /src", base)
    building.client.secrets["s"] = b"secret"
    mounts = (
        Mount(target="/in", input=1, source="/src", readonly=True),
        Mount(target="/rw", input=1, source="/src"),
        Mount(target="/cache", kind="cache", id="c", uid=7, gid=8),
        Mount(target="/secret", kind="secret", id="s"),
    )
    script = (
        "cat /proc/self/uid_map; stat -c %u:%g /in/file /rw/file /cache /secret; echo x > /rw/new; touch /mine; chown 9 /mine"
    )
    result = await building.run(script, base, other, mounts=mounts)
    assert building.printed[1].decode().split() == ["0", str(_FIRST), "65536", "5:6", "5:6", "7:8", "0:0"]
    status = os.stat(f"{building.layers.directories(result)[0]}/mine")
    assert (status.st_uid, status.st_gid) == (9, 0)
    assert building.top(result) == ["mine"]


async def test_they_are_on_networks_as_any_container(building: Building) -> None:
    networks = building.engine.networks
    await networks.create(NetworkCreateRequest(name="own"))
    await building.run("ip -o -4 addr show eth0 | wc -l; cat /proc/self/uid_map", network="own")
    assert building.printed[1].decode().split() == ["1", "0", str(_FIRST), "65536"]
    own = networks.find("own")
    await building.engine.until(lambda: not networks.leases.members(own), "its address is free")
    await networks.remove("own")
