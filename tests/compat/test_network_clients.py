"""Networks with the command lines that others have made for Docker, and with our own."""

from __future__ import annotations

import json
import re
import time

import pytest
from conftest import needs_root
from support.network_cli import CLIENTS, SERVE, fetch, network, said, started, subnet

pytestmark = needs_root


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


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


def test_a_network_that_is_not_there(bridged, client, names):
    assert "network nosuch not found" in said(bridged, client, "run", "--network", "nosuch", "busybox", "true", code=125)
    net = network(bridged, client, names)
    names.append("later")
    said(bridged, client, "create", "--name", "later", "--network", net, "busybox", "true")
    said(bridged, client, "network", "rm", net)
    assert f"network {net} not found" in said(bridged, client, "start", "later", code=1)
