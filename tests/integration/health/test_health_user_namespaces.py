"""Probes of containers that have user namespaces."""

from __future__ import annotations

import os

import pytest
from boxship.types.containers import CreateRequest, HealthConfig, HostConfig
from support.engine import IMAGE, running_engine, user_namespaces

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
async def engine(home):
    async with running_engine(home, **user_namespaces()) as engine:
        yield engine


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
