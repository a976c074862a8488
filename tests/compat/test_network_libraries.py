"""Networks and ports with docker-py."""

from __future__ import annotations

import contextlib
import time

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


def test_connecting_filters_and_events(bridged, names):
    base = subnet(bridged, 209)
    with contextlib.closing(docker.DockerClient(base_url=bridged.host)) as client:
        pool = IPAMPool(
            subnet=f"{base}0/24", iprange=f"{base}128/25", gateway=f"{base}1", aux_addresses={"router": f"{base}128"}
        )
        options = {"com.docker.network.driver.mtu": "1380"}
        net = client.networks.create(
            "net-lib",
            ipam=IPAMConfig(pool_configs=[pool]),
            options=options,
            internal=True,
            labels={"lib": "1"},
            attachable=True,
        )
        names += ["net-lib", "lib-one", "lib-two"]
        assert net.attrs["IPAM"]["Config"][0]["AuxiliaryAddresses"] == {"router": f"{base}128"}
        assert (net.attrs["Internal"], net.attrs["Attachable"], net.attrs["Options"]) == (True, True, options)
        one = client.containers.run("busybox", "sleep 1000", name="lib-one", detach=True, network_mode="none")
        with pytest.raises(APIError, match="private"):
            net.connect(one)
        two = client.containers.run("busybox", "sleep 1000", name="lib-two", detach=True)
        net.connect(two, ipv4_address=f"{base}200", aliases=["db"], driver_opt={"com.docker.network.endpoint.ifname": "side"})
        code, shown = two.exec_run("ip -o address show side")
        assert (code, f"{base}200/24" in shown.decode()) == (0, True)
        assert client.networks.list(filters={"label": "lib=1", "driver": "bridge"}) == [net]
        assert client.networks.get(net.id, verbose=True).containers == [two]
        found = client.networks.list(names=["net-lib"], greedy=True)
        assert [each.containers for each in found] == [[two]]
        net.disconnect(two, force=True)
        assert client.networks.prune(filters={"label": "lib=1"})["NetworksDeleted"] == ["net-lib"]
        events = client.events(
            since=0, until=int(time.time()) + 1, filters={"type": "network", "network": "net-lib"}, decode=True
        )
        assert [event["Action"] for event in events] == ["create", "connect", "disconnect", "destroy"]


def test_forms_of_ports(bridged, names):
    ports = {
        "80/tcp": None,
        "81/tcp": [("127.0.0.1", None), ("127.0.0.2", None)],
        82: ("127.0.0.1",),
        "53/udp": ("127.0.0.1", None),
    }
    with contextlib.closing(docker.DockerClient(base_url=bridged.host)) as client:
        box = client.containers.run("busybox", "sleep 1000", name="lib-ports", detach=True, ports=ports)
        names.append("lib-ports")
        box.reload()
        held = {port: sorted(binding["HostIp"] for binding in found) for port, found in box.ports.items()}
        assert held["80/tcp"] == ["0.0.0.0"]
        assert held["81/tcp"] == ["127.0.0.1", "127.0.0.2"]
        assert held["82/tcp"] == held["53/udp"] == ["127.0.0.1"]
        assert client.api.port(box.id, "80") == box.ports["80/tcp"]
        every = client.containers.run(
            "busybox", "sleep 1000", name="lib-all", detach=True, publish_all_ports=True, ports={"90/tcp": []}, dns=["192.0.2.53"],
            dns_search=["a.example"], dns_opt=["timeout:1"], extra_hosts={"one": "192.0.2.1"},
        )  # fmt: skip
        names.append("lib-all")
        every.reload()
        assert every.ports["90/tcp"][0]["HostPort"]
        assert every.exec_run("cat /etc/resolv.conf").output == b"nameserver 192.0.2.53\nsearch a.example\noptions timeout:1\n"
        assert b"192.0.2.1\tone\n" in every.exec_run("cat /etc/hosts").output
