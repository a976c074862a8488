"""An engine whose containers have user namespaces: other ids on the host, the same on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from boxship.types.networks import NetworkCreateRequest
from support.engine import running_engine, user_namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
async def engine(home):
    async with running_engine(home, **user_namespaces()) as engine:
        yield engine


async def said(engine, id_: str) -> str:
    assert await engine.result(id_) == 0
    return Path((await engine.containers.inspect(id_)).log_path).read_text()


async def test_root_inside_is_nobody_outside(engine):
    id_ = await engine.run("sleep", "1000")
    pid = (await engine.containers.inspect(id_)).state.pid
    assert "Uid:\t200000" in Path(f"/proc/{pid}/status").read_text()
    assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    hosts = await engine.run("sleep", "1000", userns_mode="host")
    pid = (await engine.containers.inspect(hosts)).state.pid
    assert os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")


async def test_files_keep_the_ids_that_the_container_sees(engine):
    show = "stat -c %u /bin /etc/hosts /volume; touch /made /volume/$0; chown 33:44 /made; stat -c %u /made"
    volume = f"shared-{os.getpid()}"
    first = await engine.run("sh", "-c", show, "remapped", binds=[f"{volume}:/volume"])
    text = await said(engine, first)
    assert [line in text for line in ('"log":"0\\n"', '"log":"33\\n"', "65534")] == [True, True, False]
    upper = Path(engine.settings.data_root, "containers", first, "upper")
    assert ((upper / "made").stat().st_uid, (upper / "made").stat().st_gid) == (33, 44)
    # The very same volume, in the host's user namespace.
    second = await engine.run("sh", "-c", "stat -c %u /volume/remapped", binds=[f"{volume}:/volume"], userns_mode="host")
    assert '"log":"0\\n"' in await said(engine, second)


async def test_networks(engine):
    await engine.networks.create(NetworkCreateRequest(name="web"))
    await engine.run("sleep", "1000", network_mode="web", name="one")
    # Raw sockets and a /sys of one's own are for whose user namespace owns the network namespace.
    two = await engine.run("sh", "-c", "ping -c 1 -w 20 one; ls /sys/class/net; nslookup one", network_mode="web")
    text = await said(engine, two)
    assert "1 packets received" in text
    assert '"log":"eth0\\n"' in text
    assert engine.networks.find("web").subnets[0].pool.rpartition(".")[0] in text
    show = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
    inside = await said(engine, await engine.run(*show.split(), network_mode="web"))
    outside = await said(engine, await engine.run(*show.split(), network_mode="web", userns_mode="host"))
    for text in (inside, outside):
        assert '"log":"0\\n"' in text
    assert ["2147483647" in text for text in (inside, outside)] == [False, True]
