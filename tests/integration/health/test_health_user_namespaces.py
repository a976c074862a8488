"""Probes of containers that have user namespaces."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from boxrun.container.spec import IDMapping
from boxship.types.containers import CreateRequest, HealthConfig, HostConfig
from support.engine import IMAGE

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


@pytest.mark.parametrize("capabilities", [None, ["SYS_PTRACE"]], ids=["by itself", "child by child"])
async def test_a_probe_is_in_its_containers_user_namespace(engine, capabilities):
    check = HealthConfig(test=["CMD-SHELL", "readlink /proc/self/ns/user; id -u"], interval=50_000_000)
    request = CreateRequest(
        image=IMAGE,
        cmd=["sleep", "1000"],
        healthcheck=check,
        host_config=HostConfig(network_mode="none", cap_add=capabilities),
    )
    id_ = (await engine.containers.create("", request)).id
    await engine.containers.start(id_)
    await engine.event("health_status: healthy")
    state = (await engine.containers.inspect(id_)).state
    probe, uid = state.health.log[-1].output.split()
    assert probe == os.readlink(f"/proc/{state.pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert uid == "0"
