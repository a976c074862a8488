"""pause, update, stats and top, with docker-py, with aiodocker, and with our own library; statistics over a websocket."""

from __future__ import annotations

import base64
import json
import os
import socket

import aiodocker
import docker
import pytest
from boxship import Client
from boxship.types.update import UpdateRequest
from docker.errors import APIError

# docker-py leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def box(daemon):
    ident = daemon.cli("docker", "run", "-d", "--network", "none", "busybox", "sleep", "1000").stdout.decode().strip()
    yield ident
    daemon.cli("docker", "rm", "-f", ident, code=None)


def test_docker_py(daemon, box):
    client = docker.DockerClient(base_url=daemon.host)
    container = client.containers.get(box)
    container.pause()
    container.reload()
    assert container.status == "paused"
    with pytest.raises(APIError) as caught:
        container.pause()
    assert caught.value.status_code == 409
    container.unpause()
    assert container.update(mem_limit="64m", memswap_limit="128m", cpu_shares=512) == {"Warnings": None}
    container.reload()
    assert container.attrs["HostConfig"]["CpuShares"] == 512
    assert container.top()["Processes"][0][-1] == "sleep 1000"
    assert container.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    once = container.stats(stream=False)
    assert once["memory_stats"]["limit"] == 64 << 20
    assert once["precpu_stats"]["system_cpu_usage"] < once["cpu_stats"]["system_cpu_usage"]
    stream = container.stats(decode=True)
    first, second = next(stream), next(stream)
    assert second["preread"] == first["read"]
    client.close()


async def test_aiodocker(daemon, box):
    async with aiodocker.Docker(url=daemon.host) as client:
        container = await client.containers.get(box)
        await container.pause()
        assert (await container.show())["State"]["Paused"]
        await container.unpause()
        (once,) = await container.stats(stream=False)
        assert once["memory_stats"]["usage"] > 0
        seen = []
        async for sample in container.stats(stream=True):
            seen.append(sample)
            if len(seen) == 2:
                # The stream ends with the container.
                await container.delete(force=True)
        assert seen[1]["preread"] == seen[0]["read"]


def test_our_own_library(daemon, box):
    with Client(daemon.host) as client:
        containers = client.containers
        containers.pause(box)
        assert containers.inspect(box).state.paused
        containers.unpause(box)
        assert containers.update(box, UpdateRequest(pids_limit=5)).warnings is None
        assert containers.inspect(box).host_config.pids_limit == 5
        assert containers.top(box).processes[0][-1] == "sleep 1000"
        assert containers.stats_once(box, one_shot=True).pids_stats.limit == 5
        assert containers.stats_once(box).precpu_stats.system_cpu_usage > 0
        stream = containers.stats(box)
        first = next(stream)
        assert next(stream).preread == first.read
        stream.close()


def test_statistics_over_a_websocket(daemon, box):
    key = base64.b64encode(os.urandom(16)).decode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(daemon.socket))
        sock.sendall(
            f"GET /containers/{box}/stats/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        file = sock.makefile("rb")
        assert file.readline() == b"HTTP/1.1 101 Switching Protocols\r\n"
        while file.readline() != b"\r\n":
            pass
        samples = [_message(file) for _ in range(2)]
        assert [sample["id"] for sample in samples] == [box, box]
        assert samples[1]["preread"] == samples[0]["read"]
        # A close frame, masked as a client's has to be.
        sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        while file.read(1):
            pass
        file.close()


def _message(file):
    kind, length = file.read(2)
    assert kind == 0x81, "a whole text message"
    if length == 126:
        length = int.from_bytes(file.read(2))
    return json.loads(file.read(length))


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("stats?stream=1&one-shot=1", None, 400),
        ("top?ps_args=-o%20comm%3DPID", None, 400),
        ("top?ps_args=-o%20comm", None, 500),
        ("update", {"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}, 400),
        ("update", {"Memory": 1}, 400),
        ("update", {"Memory": 67108864}, 409),
        ("update", {"Devices": None, "Ulimits": [], "CgroupParent": "", "OomKillDisable": None}, 200),
    ],
)
def test_statuses(daemon, box, path, body, status):
    found, said = daemon.request("GET" if body is None else "POST", f"/containers/{box}/{path}", body)
    assert found == status, said
