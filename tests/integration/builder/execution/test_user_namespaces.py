"""Commands in user namespaces of their own: their files are the layer's as if there were none."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from boxrun.container.spec import IDMapping
from boxship.types.networks import NetworkCreateRequest
from boxshipd.builder.graph import Mount
from boxshipd.errors import NotImplementedHere
from support.building import Building
from support.engine import Engine

_FIRST = 300000


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Engine]:
    """An engine whose containers have user namespaces."""
    ids = (IDMapping(inside=0, outside=_FIRST, size=65536),)
    engine = Engine(home, uid_mappings=ids, gid_mappings=ids)
    await engine.open()
    try:
        yield engine
    finally:
        try:
            await engine.containers.shutdown_everything()
        finally:
            await engine.close()
            with contextlib.suppress(OSError, ValueError):
                os.kill(engine.supervisor_pid(), signal.SIGKILL)


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


async def test_a_network_of_theirs_is_refused_for_now(building: Building) -> None:
    await building.engine.networks.create(NetworkCreateRequest(name="own"))
    with pytest.raises(NotImplementedHere, match="user namespace"):
        await building.run("true", network="own")
    await building.engine.networks.remove("own")
