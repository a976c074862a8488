"""An engine whose containers have user namespaces: other ids on the host, the same on the disk."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from boxrun.container.spec import IDMapping
from boxship.types.networks import NetworkCreateRequest
from boxshipd.errors import NotImplementedHere
from msgspec.structs import replace

_beside = importlib.util.spec_from_file_location("engines", Path(__file__).parents[1] / "engine/conftest.py")
engines = importlib.util.module_from_spec(_beside)
_beside.loader.exec_module(engines)
home = engines.home
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
async def engine(home):
    engine = engines.Engine(
        home,
        uid_mappings=(IDMapping(inside=0, outside=200000, size=65536),),
        gid_mappings=(IDMapping(inside=0, outside=300000, size=65536),),
    )
    await engine.open()
    try:
        yield engine
    finally:
        await engine.containers.shutdown_everything()
        await engine.close()


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


async def test_networks_are_refused_at_the_creation(engine):
    await engine.networks.create(NetworkCreateRequest(name="web", config_only=True))
    template = engine.networks.find("web")
    # A network as any other, but for what the kernel would have of it, which a creation doesn't ask for.
    engine.networks._add(replace(template, id="a" * 64, name="real", config_only=False))
    with pytest.raises(NotImplementedHere, match="user namespace of their own can't be on networks yet"):
        await engine.create("true", network_mode="real")
    await engine.create("true", network_mode="real", userns_mode="host")
    await engine.create("true", network_mode="none")
