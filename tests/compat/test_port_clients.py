"""Published ports with the command lines that others have made for Docker, and with our own."""

from __future__ import annotations

import socket

import pytest
from conftest import needs_root
from support.network_cli import CLIENTS, SERVE, fetch, free_port, network, said, started

pytestmark = needs_root


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


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


def test_forms_that_cannot_be(bridged, client):
    for form, message in (
        ("8000-8002:80-81", "invalid ranges"),
        ("70000:80", "70000"),
        ("192.0.2.77.1:80:80", "192.0.2.77.1"),
        ("80/xyz", "xyz"),
        ("a:80", "a"),
    ):
        assert message in said(bridged, client, "run", "--rm", "-p", form, "busybox", "true", code=125), form


def test_one_port_at_several_places(bridged, client, names):
    port = free_port()
    places = (
        "-p",
        f"127.0.0.1:{port}:80",
        "-p",
        f"127.0.0.2:{port}:80",
        "-p",
        "127.0.0.3::80",
        "-p",
        f"127.0.0.1:{port}:80/udp",
    )
    name = started(bridged, client, names, "c", *places, "busybox", *SERVE)
    bindings = bridged.inspect(name)["NetworkSettings"]["Ports"]
    assert {binding["HostIp"] for binding in bindings["80/tcp"]} == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
    assert bindings["80/udp"] == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    for binding in bindings["80/tcp"]:
        assert fetch(binding["HostIp"], int(binding["HostPort"]))
    lines = said(bridged, client, "port", name).splitlines()
    assert f"80/udp -> 127.0.0.1:{port}" in lines
    assert len(lines) == 4
    assert said(bridged, client, "port", name, "80/udp") == f"127.0.0.1:{port}\n"


def test_a_range_gives_each_container_one_of_its_ports(bridged, client, names):
    first = free_port()
    form = f"127.0.0.1:{first}-{first + 30}:80"
    taken = []
    for number in range(3):
        name = started(bridged, client, names, f"c{number}", "-p", form, "busybox", "sleep", "1000")
        taken.append(int(bridged.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]))
    assert len(set(taken)) == 3
    assert all(first <= port <= first + 30 for port in taken)


def test_ipv6_addresses_of_a_network_are_published_at_too(bridged, client, names):
    net = network(bridged, client, names, "--ipv6")
    name = started(bridged, client, names, "c", "--network", net, "-p", "80", "busybox", *SERVE)
    bindings = bridged.inspect(name)["NetworkSettings"]["Ports"]["80/tcp"]
    assert [binding["HostIp"] for binding in bindings] == ["0.0.0.0", "::"]
    assert len({binding["HostPort"] for binding in bindings}) == 1
    port = bindings[0]["HostPort"]
    assert said(bridged, client, "port", name) == f"80/tcp -> 0.0.0.0:{port}\n80/tcp -> [::]:{port}\n"
    shown = said(bridged, client, "ps", "--format", "{{.Ports}}", "-f", f"name={name}")
    assert shown == f"0.0.0.0:{port}->80/tcp, [::]:{port}->80/tcp\n"
    assert fetch("127.0.0.1", int(port))


def test_what_is_refused_leaves_its_other_ports_free(bridged, client, names):
    port, other = free_port(), free_port()
    with socket.create_server(("127.0.0.1", port)):
        published = ("-p", f"127.0.0.1:{other}:81", "-p", f"127.0.0.1:{port}:80")
        said(bridged, client, "run", "--rm", *published, "busybox", "true", code=125)
        name = started(bridged, client, names, "c", "-p", f"127.0.0.1:{other}:80", "busybox", *SERVE)
        assert fetch("127.0.0.1", other) == bridged.inspect(name)["Config"]["Hostname"]
