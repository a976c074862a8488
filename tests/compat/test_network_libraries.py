"""Networks and ports with docker-py."""

from __future__ import annotations

import contextlib

import docker
import pytest
from conftest import needs_root
from docker.errors import APIError, NotFound
from docker.types import EndpointConfig, IPAMConfig, IPAMPool
from support.network_cli import subnet

pytestmark = [
    needs_root,
    # docker-py leaves the sockets of its streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_docker_py(bridged, names):
    base = subnet(bridged, 203)
    with contextlib.closing(docker.DockerClient(base_url=bridged.host)) as client:
        pool = IPAMPool(subnet=f"{base}0/24", gateway=f"{base}1")
        net = client.networks.create("net-py", driver="bridge", ipam=IPAMConfig(pool_configs=[pool]), labels={"x": "y"})
        names.append("net-py")
        assert [found.id for found in client.networks.list(names=["net-py"])] == [net.id]
        with pytest.raises(APIError) as refused:
            client.networks.create("net-py")
        assert refused.value.status_code == 409
        endpoint = EndpointConfig("1.44", ipv4_address=f"{base}7", aliases=["seven"])
        one = client.containers.run(
            "busybox", "sleep 1000", name="py-one", detach=True, network="net-py", networking_config={"net-py": endpoint},
            ports={"80/tcp": ("127.0.0.1", None), "53/udp": None},
        )  # fmt: skip
        names.append("py-one")
        one.reload()
        assert one.attrs["NetworkSettings"]["Networks"]["net-py"]["IPAddress"] == f"{base}7"
        assert one.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"
        assert one.ports["53/udp"][0]["HostPort"]
        two = client.containers.create("busybox", "nslookup seven", name="py-two")
        names.append("py-two")
        net.connect(two, aliases=["two"])
        two.start()
        assert two.wait()["StatusCode"] == 0
        assert f"Address: {base}7".encode() in two.logs()
        net.reload()
        assert [container.name for container in net.containers] == ["py-one"]
        with pytest.raises(APIError) as refused:
            net.remove()
        assert refused.value.status_code == 403
        net.disconnect(one)
        net.remove()
        with pytest.raises(NotFound):
            client.networks.get("net-py")
        assert "net-py" not in (client.networks.prune()["NetworksDeleted"] or [])
