"""Networks with the command lines and libraries that others have made for Docker, and with our own."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from conftest import needs_root
from docker.errors import APIError, NotFound
from docker.types import EndpointConfig, IPAMConfig, IPAMPool
from support.daemon import DOCKER, Daemon, wait_until

pytestmark = [
    needs_root,
    # docker-py leaves the sockets of its streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]
SERVE = ("sh", "-c", "mkdir /www; hostname >/www/name; exec httpd -f -p 80 -h /www")


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


@pytest.fixture
def names(bridged) -> Iterator[list[str]]:
    """Names of containers and networks (which begin with ``net``), gone afterwards."""
    made: list[str] = []
    yield made
    containers = [name for name in made if not name.startswith("net")]
    if containers:
        bridged.cli("docker", "rm", "-f", *containers, code=None)
    for name in made:
        if name.startswith("net"):
            bridged.cli("docker", "network", "rm", "-f", name)


def said(daemon: Daemon, client: str, *words: str, code: int | None = 0) -> str:
    """What a command prints, errors included."""
    result = daemon.cli(client, *words, code=code)
    return (result.stdout + result.stderr).decode()


def network(daemon: Daemon, client: str, names: list[str], *flags: str, suffix: str = "") -> str:
    name = f"net-{client}{suffix}"
    names.append(name)
    said(daemon, client, "network", "create", *flags, name)
    return name


def started(daemon: Daemon, client: str, names: list[str], name: str, *words: str) -> str:
    name = f"{name}-{client}"
    names.append(name)
    said(daemon, client, "run", "-d", "--name", name, *words)
    return name


def subnet(daemon: Daemon, third: int) -> str:
    """A part of the daemon's own addresses, without its last number."""
    return daemon.subnets.replace(".0.0/16", f".{third}.")


def fetch(address: str, port: int, path: str = "name") -> str:
    """GET from a container's server, as soon as it serves."""
    host = f"[{address}]" if ":" in address else address

    def ask() -> str:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/{path}", timeout=10) as answer:
                return answer.read().decode().strip()
        except OSError:
            return ""

    return wait_until(ask, f"http://{address}:{port}/{path} answers")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# Networks


def test_create_ls_inspect_rm(bridged, client, names):
    base = subnet(bridged, 200)
    name = f"net-{client}"
    flags = (
        "--subnet",
        f"{base}0/24",
        "--gateway",
        f"{base}254",
        "--ip-range",
        f"{base}128/25",
        "--aux-address",
        f"r={base}129",
    )
    options = ("--label", "a=b", "-o", "com.docker.network.driver.mtu=1400", "--internal", "--attachable")
    identifier = said(bridged, client, "network", "create", *flags, *options, name).strip()
    names.append(name)
    assert re.fullmatch("[0-9a-f]{64}", identifier)
    (shown,) = json.loads(said(bridged, client, "network", "inspect", name))
    assert shown["IPAM"] == {
        "Driver": "default",
        "Options": None if client == "boxship" else {},
        "Config": [
            {
                "Subnet": f"{base}0/24",
                "IPRange": f"{base}128/25",
                "Gateway": f"{base}254",
                "AuxiliaryAddresses": {"r": f"{base}129"},
            }
        ],
    } or shown["IPAM"]["Options"] in (None, {})
    assert (shown["Id"], shown["Name"], shown["Driver"], shown["Scope"]) == (identifier, name, "bridge", "local")
    assert (shown["Internal"], shown["Attachable"], shown["EnableIPv4"], shown["EnableIPv6"]) == (True, True, True, False)
    assert (shown["Labels"], shown["Options"]) == ({"a": "b"}, {"com.docker.network.driver.mtu": "1400"})
    assert sorted(shown) == [
        *(
            "Attachable",
            "ConfigFrom",
            "ConfigOnly",
            "Containers",
            "Created",
            "Driver",
            "EnableIPv4",
            "EnableIPv6",
            "IPAM",
            "Id",
        ),
        *("Ingress", "Internal", "Labels", "Name", "Options", "Scope"),
    ]
    table = said(bridged, client, "network", "ls", "-f", f"name={name}")
    assert re.fullmatch(rf"NETWORK ID +NAME +DRIVER +SCOPE\n{identifier[:12]} +{name} +bridge +local\n", table)
    assert said(bridged, client, "network", "ls", "-q", "--no-trunc", "-f", "label=a") == f"{identifier}\n"
    assert said(bridged, client, "network", "ls", "--format", "{{.Name}} {{.Internal}}", "-f", f"id={identifier}") == (
        f"{name} true\n"
    )
    assert said(bridged, client, "inspect", "-f", "{{.Name}}", "--type", "network", name) == f"{name}\n"
    assert "already exists" in said(bridged, client, "network", "create", name, code=1)
    assert said(bridged, client, "network", "rm", name) == f"{name}\n"
    assert f"network {name} not found" in said(bridged, client, "network", "inspect", name, code=1)
    assert f"network {name} not found" in said(bridged, client, "network", "rm", name, code=1)
    said(bridged, client, "network", "rm", "-f", name)


def test_the_predefined_networks(bridged, client):
    assert said(bridged, client, "network", "ls", "-f", "type=builtin", "--format", "{{.Name}}").split() == [
        *("bridge", "host", "none")
    ]
    assert "bridge is a pre-defined network and cannot be removed" in said(bridged, client, "network", "rm", "bridge", code=1)
    message = "operation is not permitted on predefined host network"
    assert message in said(bridged, client, "network", "create", "host", code=1)


def test_prune(bridged, client, names):
    name = network(bridged, client, names, "--label", f"prune={client}")
    other = network(bridged, client, names, "--label", f"prune={client}", suffix="-used")
    started(bridged, client, names, "user", "--network", other, "busybox", "sleep", "1000")
    asked = bridged.cli(client, "network", "prune", "--filter", f"label=prune={client}", stdin=b"n\n")
    assert b"all custom networks not used by at least one container" in asked.stdout
    assert (
        said(bridged, client, "network", "prune", "-f", "--filter", f"label=prune={client}") == f"Deleted Networks:\n{name}\n\n"
    )
    assert "has active endpoints" in said(bridged, client, "network", "rm", other, code=1)


def test_events(bridged, client, names):
    name = network(bridged, client, names, suffix="-events")
    started(bridged, client, names, "one", "--network", name, "busybox", "true")
    bridged.cli("docker", "wait", f"one-{client}")
    said(bridged, client, "network", "rm", name)
    shown = said(bridged, client, "events", "--since", "0", "--until", str(int(time.time()) + 1), "-f", "type=network", "-f", f"network={name}",
                 "--format", "{{json .}}")  # fmt: skip
    events = [json.loads(line) for line in shown.splitlines()]
    assert [event["Action"] for event in events] == ["create", "connect", "disconnect", "destroy"]
    assert {event["Actor"]["Attributes"]["type"] for event in events} == {"bridge"}
    assert len(events[1]["Actor"]["Attributes"]["container"]) == 64


# Containers on networks


def test_the_default_bridge(bridged, client, names):
    name = started(bridged, client, names, "c", "busybox", "sleep", "1000")
    shown = bridged.inspect(name)
    assert shown["HostConfig"]["NetworkMode"] == "bridge"
    settings = shown["NetworkSettings"]
    assert settings["Networks"]["bridge"]["IPAddress"] == settings["IPAddress"] != ""
    assert settings["Gateway"] == subnet(bridged, 0) + "1"
    inside = said(bridged, client, "exec", name, "ip", "-4", "address", "show", "eth0")
    assert f"inet {settings['IPAddress']}/24" in inside
    assert said(bridged, client, "exec", name, "ip", "link", "show", "eth0").split()[-3].lower() == settings["MacAddress"]
    assert f"{settings['IPAddress']}\t{shown['Config']['Hostname']}" in said(bridged, client, "exec", name, "cat", "/etc/hosts")
    assert said(bridged, client, "ps", "-f", "network=bridge", "-f", f"name={name}", "--format", "{{.Networks}}") == "bridge\n"


def test_names_and_aliases(bridged, client, names):
    net = network(bridged, client, names)
    one = started(bridged, client, names, "one", "--network", net, "--network-alias", "web", "-h", "box", "busybox", *SERVE)
    address = bridged.inspect(one)["NetworkSettings"]["Networks"][net]["IPAddress"]
    short = bridged.inspect(one)["Id"][:12]
    two = started(bridged, client, names, "two", "--network", net, "busybox", "sleep", "1000")
    for name in (one, "web", short, "box", f"web.{net}"):
        found = said(bridged, client, "exec", two, "nslookup", name)
        assert f"Address: {address}" in found, found
    back = said(bridged, client, "exec", two, "nslookup", address)
    assert f"name = {one}.{net}" in back
    assert said(bridged, client, "exec", two, "wget", "-qO-", "http://web/name") == "box\n"
    assert "NXDOMAIN" in said(bridged, client, "exec", two, "nslookup", "nobody", code=None)
    said(bridged, client, "rename", one, f"{one}-renamed")
    names.append(f"{one}-renamed")
    assert f"Address: {address}" in said(bridged, client, "exec", two, "nslookup", f"{one}-renamed")
    said(bridged, client, "rm", "-f", f"{one}-renamed")
    assert "NXDOMAIN" in said(bridged, client, "exec", two, "nslookup", "web", code=None)


def test_networks_are_apart(bridged, client, names):
    one = network(bridged, client, names, suffix="-one")
    two = network(bridged, client, names, suffix="-two")
    server = started(bridged, client, names, "server", "--network", one, "busybox", *SERVE)
    address = bridged.inspect(server)["NetworkSettings"]["Networks"][one]["IPAddress"]
    assert fetch(address, 80)
    ask = ("busybox", "sh", "-c", f"timeout 2 wget -qO- http://{address}/name || echo none")
    assert "none" not in said(bridged, client, "run", "--rm", "--network", one, *ask)
    assert "none\n" in said(bridged, client, "run", "--rm", "--network", two, *ask)


def test_an_internal_network_has_no_way_out(bridged, client, names):
    net = network(bridged, client, names, "--internal")
    name = started(bridged, client, names, "c", "--network", net, "busybox", "sleep", "1000")
    assert "default" not in said(bridged, client, "exec", name, "ip", "route")
    assert bridged.inspect(name)["NetworkSettings"]["Networks"][net]["Gateway"] == ""


def test_static_addresses(bridged, client, names):
    base, six = subnet(bridged, 201), f"fd42:b0c5:{bridged.slot.number:x}:ff::"
    net = network(bridged, client, names, "--subnet", f"{base}0/24", "--ipv6", "--subnet", f"{six}/64")
    wanted = ("--ip", f"{base}9", "--ip6", f"{six}9", "--mac-address", "02:42:0a:00:00:09")
    name = started(bridged, client, names, "c", "--network", net, *wanted, "busybox", "sleep", "1000")
    shown = bridged.inspect(name)["NetworkSettings"]["Networks"][net]
    assert (shown["IPAddress"], shown["GlobalIPv6Address"], shown["MacAddress"]) == (f"{base}9", f"{six}9", "02:42:0a:00:00:09")
    inside = said(bridged, client, "exec", name, "ip", "address", "show", "eth0")
    assert f"inet {base}9/24" in inside
    assert f"inet6 {six}9/64" in inside
    assert "link/ether 02:42:0a:00:00:09" in inside
    taken = said(bridged, client, "run", "--rm", "--network", net, "--ip", f"{base}9", "busybox", "true", code=125)
    assert "Address already in use" in taken
    outside = said(bridged, client, "run", "--rm", "--network", net, "--ip", "192.0.2.1", "busybox", "true", code=125)
    assert "no configured subnet or ip-range contain the IP address 192.0.2.1" in outside
    default = said(bridged, client, "run", "--rm", "--ip", f"{base}9", "busybox", "true", code=125)
    assert "user specified IP address is supported on user defined networks only" in default


def test_a_restart_keeps_the_address(bridged, client, names):
    net = network(bridged, client, names)
    name = started(bridged, client, names, "c", "--network", net, "-p", "80", "busybox", *SERVE)
    before = bridged.inspect(name)["NetworkSettings"]
    other = started(bridged, client, names, "other", "--network", net, "busybox", "sleep", "1000")
    said(bridged, client, "restart", "-t", "0", name)
    after = bridged.inspect(name)["NetworkSettings"]
    assert after["Networks"][net]["IPAddress"] == before["Networks"][net]["IPAddress"]
    assert after["Ports"] == before["Ports"]
    assert fetch("127.0.0.1", int(after["Ports"]["80/tcp"][0]["HostPort"]))
    said(bridged, client, "stop", "-t", "0", name)
    assert bridged.inspect(name)["NetworkSettings"]["Networks"][net]["IPAddress"] == ""
    said(bridged, client, "start", name)
    assert bridged.inspect(name)["NetworkSettings"]["Networks"][net]["IPAddress"] == before["Networks"][net]["IPAddress"]
    assert bridged.inspect(other)["State"]["Running"]


def test_several_networks(bridged, client, names):
    one, two = network(bridged, client, names, suffix="-one"), network(bridged, client, names, suffix="-two")
    name = started(
        bridged, client, names, "c",
        *("--network", f"name={one},alias=a", "--network", f"name={two},alias=b,gw-priority=5,driver-opt=com.docker.network.endpoint.ifname=lan7"),
        "busybox", "sleep", "1000",
    )  # fmt: skip
    networks = bridged.inspect(name)["NetworkSettings"]["Networks"]
    assert {network: shown["Aliases"] for network, shown in networks.items()} == {one: ["a"], two: ["b"]}
    routes = said(bridged, client, "exec", name, "ip", "route")
    assert f"default via {networks[two]['Gateway']} dev lan7" in routes


def test_connect_and_disconnect(bridged, client, names):
    base = subnet(bridged, 202)
    net = network(bridged, client, names, "--subnet", f"{base}0/24")
    name = started(bridged, client, names, "c", "busybox", "sleep", "1000")
    other = started(bridged, client, names, "other", "--network", net, "busybox", "sleep", "1000")
    said(bridged, client, "network", "connect", "--ip", f"{base}9", "--alias", "db", net, name)
    assert f"inet {base}9/24" in said(bridged, client, "exec", name, "ip", "address", "show", "eth1")
    assert f"Address: {base}9" in said(bridged, client, "exec", other, "nslookup", "db")
    (shown,) = json.loads(said(bridged, client, "network", "inspect", net))
    assert {end["Name"]: end["IPv4Address"] for end in shown["Containers"].values()}[name] == f"{base}9/24"
    again = said(bridged, client, "network", "connect", net, name, code=1)
    assert f"endpoint with name {name} already exists in network {net}" in again
    said(bridged, client, "network", "disconnect", net, name)
    assert "eth1" not in said(bridged, client, "exec", name, "ip", "address")
    assert f"is not connected to the network {net}" in said(bridged, client, "network", "disconnect", net, name, code=1)
    said(bridged, client, "network", "disconnect", "bridge", name)
    assert "eth0" not in said(bridged, client, "exec", name, "ip", "address")


def test_a_container_of_another(bridged, client, names):
    name = started(bridged, client, names, "c", "busybox", *SERVE)
    shared = said(
        bridged, client, "run", "--rm", "--network", f"container:{name}", "busybox", "wget", "-qO-", "http://127.0.0.1/name"
    )
    assert shared.strip() == bridged.inspect(name)["Config"]["Hostname"]
    address = bridged.inspect(name)["NetworkSettings"]["IPAddress"]
    assert f"inet {address}/24" in said(bridged, client, "run", "--rm", "--network", f"container:{name}", "busybox", "ip", "a")


def test_host_gateway_and_links(bridged, client, names):
    db = started(bridged, client, names, "db", "busybox", "sleep", "1000")
    hosts = said(
        bridged,
        client,
        "run",
        "--rm",
        "--add-host",
        "gw:host-gateway",
        "--link",
        f"{db}:database",
        "busybox",
        "cat",
        "/etc/hosts",
    )
    assert f"{subnet(bridged, 0)}1\tgw\n" in hosts
    assert f"{bridged.inspect(db)['NetworkSettings']['IPAddress']}\tdatabase " in hosts
    missing = said(bridged, client, "run", "--rm", "--link", "nosuch", "busybox", "true", code=125)
    assert "could not get container for nosuch" in missing


def test_what_links_tell_and_how_they_end(bridged, client, names):
    db = started(bridged, client, names, "db", "--expose", "80", "--expose", "81", "-e", "PASS=x", "busybox", "sleep", "1000")
    address = bridged.inspect(db)["NetworkSettings"]["IPAddress"]
    web = started(
        bridged, client, names, "web", "--link", f"{db}:the-db", "-e", "THE_DB_ENV_PASS=own", "busybox", "sleep", "1000"
    )
    expected = {
        "THE_DB_PORT": f"tcp://{address}:80",
        "THE_DB_PORT_80_TCP": f"tcp://{address}:80",
        "THE_DB_PORT_81_TCP_ADDR": address,
        "THE_DB_PORT_80_TCP_START": f"tcp://{address}:80",
        "THE_DB_PORT_80_TCP_PORT_END": "81",
        "THE_DB_NAME": f"/{web}/the-db",
        "THE_DB_ENV_PASS": "own",
    }
    pid = bridged.inspect(web)["State"]["Pid"]
    variables = dict(line.split("=", 1) for line in Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0"))
    assert {name: variables.get(name) for name in expected} == expected
    assert "THE_DB_ENV_PATH" not in variables
    inside = dict(line.split("=", 1) for line in said(bridged, client, "exec", web, "env").splitlines())
    assert {name: inside.get(name) for name in expected} == expected
    # The link is a name of the linked container's, until it goes.
    assert said(bridged, client, "inspect", "--format", "{{.Id}}", f"{web}/the-db") == bridged.inspect(db)["Id"] + "\n"
    assert "the-db" in said(bridged, client, "exec", web, "cat", "/etc/hosts")
    assert "cannot remove the default link name" in said(bridged, client, "rm", "--link", db, code=1)
    assert said(bridged, client, "rm", "--link", f"{web}/the-db") == f"{web}/the-db\n"
    assert "the-db" not in said(bridged, client, "exec", web, "cat", "/etc/hosts")
    assert not bridged.inspect(web)["HostConfig"]["Links"]
    assert "THE_DB_PORT" not in said(bridged, client, "exec", web, "env")
    assert said(bridged, client, "rm", "--link", f"{web}/the-db", code=1)
    assert bridged.inspect(db)["State"]["Running"]


def test_a_network_that_is_not_there(bridged, client, names):
    assert "network nosuch not found" in said(bridged, client, "run", "--network", "nosuch", "busybox", "true", code=125)
    net = network(bridged, client, names)
    names.append("later")
    said(bridged, client, "create", "--name", "later", "--network", net, "busybox", "true")
    said(bridged, client, "network", "rm", net)
    assert f"network {net} not found" in said(bridged, client, "start", "later", code=1)


# Ports


@pytest.mark.parametrize(
    "form", ["{port}:80", "127.0.0.1:{port}:80", "0.0.0.0:{port}:80/tcp", "{port}-{more}:80", "127.0.0.1::80", "80"]
)
def test_publish(bridged, client, names, form):
    port = free_port()
    publish = form.format(port=port, more=port + 5)
    name = started(bridged, client, names, "c", "-p", publish, "busybox", *SERVE)
    bindings = bridged.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"]
    number = bindings[0]["HostPort"]
    if "{port}" in form:
        assert number == str(port)
    # The default bridge has no IPv6; without an address, the host's IPv6 addresses lead to the container all the same.
    named = next((ip for ip in ("127.0.0.1", "0.0.0.0") if form.startswith(ip)), "")
    assert bindings == [{"HostIp": ip, "HostPort": number} for ip in ([named] if named else ["0.0.0.0", "::"])]
    hostname = bridged.inspect(name)["Config"]["Hostname"]
    for address in ("127.0.0.1",) if named else ("127.0.0.1", "::1"):
        assert fetch(address, int(number)) == hostname
    places = [f"{named}:{number}"] if named else [f"0.0.0.0:{number}", f"[::]:{number}"]
    assert said(bridged, client, "port", name) == "".join(f"80/tcp -> {place}\n" for place in places)
    assert said(bridged, client, "port", name, "80") == "".join(f"{place}\n" for place in places)
    assert "Error: No public port '81' published" in said(bridged, client, "port", name, "81", code=1)
    shown = said(bridged, client, "ps", "--format", "{{.Ports}}", "-f", f"name={name}", "-f", "publish=80")
    assert shown == ", ".join(f"{place}->80/tcp" for place in places) + "\n"


def test_ranges_all_and_other_protocols(bridged, client, names):
    port = free_port()
    name = started(
        bridged, client, names, "c", "-p", f"{port}-{port + 1}:8000-8001", "-p", f"{port}:53/udp", "busybox", "sleep", "1000"
    )
    ports = bridged.inspect(name)["NetworkSettings"]["Ports"]
    assert {inside: place[0]["HostPort"] for inside, place in ports.items()} == {
        "8000/tcp": str(port),
        "8001/tcp": str(port + 1),
        "53/udp": str(port),
    }
    every = started(bridged, client, names, "every", "-P", "--expose", "80", "--expose", "90/udp", "busybox", *SERVE)
    ports = bridged.inspect(every)["NetworkSettings"]["Ports"]
    assert sorted(ports) == ["80/tcp", "90/udp"]
    assert fetch("127.0.0.1", int(ports["80/tcp"][0]["HostPort"]))


def test_a_port_that_is_taken(bridged, client, names):
    port = free_port()
    one = started(bridged, client, names, "one", "-p", f"{port}:80", "busybox", "sleep", "1000")
    refused = said(bridged, client, "run", "--name", f"two-{client}", "-p", f"{port}:80", "busybox", "true", code=125)
    names.append(f"two-{client}")
    assert f"Bind for 0.0.0.0:{port} failed: port is already allocated" in refused
    assert bridged.inspect(f"two-{client}")["State"]["Status"] == "created"
    said(bridged, client, "rm", "-f", one)
    said(bridged, client, "start", f"two-{client}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        refused = said(bridged, client, "run", "--rm", "-p", f"127.0.0.1:{taken}:80", "busybox", "true", code=125)
        assert f"failed to bind host port 127.0.0.1:{taken}" in refused
        assert "address already in use" in refused


# docker-py


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
