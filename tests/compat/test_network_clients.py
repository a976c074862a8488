"""Networks with the command lines that others have made for Docker, and with our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
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

    def asked(network: str, seconds: int) -> str:
        ask = ("sh", "-c", f"timeout {seconds} wget -qO- http://{address}/name || echo none")
        return said(bridged, client, "run", "--rm", "--network", network, "busybox", *ask)

    assert "none" not in asked(one, 60)
    assert "none\n" in asked(two, 2)


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


def test_addresses_come_from_the_range_and_leave_out_what_is_reserved(bridged, client, names):
    base = subnet(bridged, 204)
    reserved = ("--gateway", f"{base}129", "--aux-address", f"router={base}130", "--aux-address", f"far={base}9")
    net = network(bridged, client, names, "--subnet", f"{base}0/24", "--ip-range", f"{base}128/29", *reserved)
    boxes = [started(bridged, client, names, f"c{number}", "--network", net, "busybox", "sleep", "1000") for number in range(5)]
    held = {bridged.inspect(box)["NetworkSettings"]["Networks"][net]["IPAddress"] for box in boxes}
    assert held <= {f"{base}{number}" for number in (128, 131, 132, 133, 134, 135)}
    assert len(held) == 5
    # Those that were asked for needn't be in the range, but in the subnet.
    started(bridged, client, names, "static", "--network", net, "--ip", f"{base}7", "busybox", "sleep", "1000")
    started(bridged, client, names, "last", "--network", net, "busybox", "sleep", "1000")
    full = said(bridged, client, "run", "--rm", "--network", net, "busybox", "true", code=125)
    assert "no available IPv4 addresses on this network's address pools" in full
    for taken in (f"{base}9", f"{base}129"):
        assert "Address already in use" in said(
            bridged, client, "run", "--rm", "--network", net, "--ip", taken, "busybox", "true", code=125
        )


def test_subnets_that_cannot_be(bridged, client, names):
    base = subnet(bridged, 205)
    network(bridged, client, names, "--subnet", f"{base}0/24")
    for flags, message in (
        (("--subnet", f"{base}128/25"), "Pool overlaps with other one on this address space"),
        (("--subnet", f"{base}1/24"), f"invalid subnet {base}1/24: it should be {base}0/24"),
        (("--subnet", f"{subnet(bridged, 206)}0/24", "--gateway", "192.0.2.1"), "no matching subnet for gateway 192.0.2.1"),
        (("--subnet", f"{subnet(bridged, 206)}0/24", "--ip-range", f"{base}0/25"), "no matching subnet for range"),
        (("-o", "com.docker.network.bridge.nosuch=1"), "com.docker.network.bridge.nosuch"),
        (("-o", "com.docker.network.driver.mtu=x"), "x"),
    ):
        assert message in said(bridged, client, "network", "create", *flags, f"net-{client}-bad", code=1), flags


def test_what_options_do(bridged, client, names):
    number = bridged.slot.number
    options = {
        "com.docker.network.bridge.name": f"bxn{number}",
        "com.docker.network.driver.mtu": "1380",
        "com.docker.network.container_iface_prefix": "lan",
    }
    flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    net = network(bridged, client, names, *flags)
    sysctl = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    box = started(bridged, client, names, "c", "--network", f"name={net},driver-opt={sysctl}", "busybox", "sleep", "1000")
    assert "mtu 1380" in said(bridged, client, "exec", box, "ip", "link", "show", "lan0")
    assert said(bridged, client, "exec", box, "cat", "/proc/sys/net/ipv4/conf/lan0/log_martians") == "1\n"
    assert "mtu 1380" in subprocess.check_output(["ip", "link", "show", f"bxn{number}"], text=True)
    again = said(bridged, client, "network", "create", "-o", f"com.docker.network.bridge.name=bxn{number}", f"{net}-2", code=1)
    assert f"bxn{number}" in again


def test_connect_flags_of_a_running_container(bridged, client, names):
    base, six = subnet(bridged, 207), f"fd42:b0c5:{bridged.slot.number:x}:fe::"
    net = network(bridged, client, names, "--subnet", f"{base}0/24", "--ipv6", "--subnet", f"{six}/64")
    box = started(bridged, client, names, "c", "-p", "80", "busybox", *SERVE)
    peer = started(bridged, client, names, "peer", "--network", net, "busybox", "sleep", "1000")
    port = bridged.inspect(box)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
    assert fetch("127.0.0.1", int(port))
    flags = ("--ip", f"{base}40", "--ip6", f"{six}40", "--link", f"{peer}:other", "--link-local-ip", "169.254.7.7")
    further = ("--gw-priority", "9", "--driver-opt", "com.docker.network.endpoint.ifname=side")
    said(bridged, client, "network", "connect", *flags, *further, net, box)
    shown = said(bridged, client, "exec", box, "ip", "address", "show", "side")
    assert all(f"{word} " in shown for word in (f"inet {base}40/24", f"inet6 {six}40/64", "inet 169.254.7.7/16"))
    assert f"default via {base}1 dev side" in said(bridged, client, "exec", box, "ip", "route")
    assert f"default via {six}1 dev side" in said(bridged, client, "exec", box, "ip", "-6", "route")
    peers = bridged.inspect(peer)["NetworkSettings"]["Networks"][net]["IPAddress"]
    assert f"Address: {peers}" in said(bridged, client, "exec", box, "nslookup", "other")
    # Ports lead to where the default route is, and back.
    assert fetch("127.0.0.1", int(port))
    said(bridged, client, "network", "disconnect", "-f", net, box)
    assert "dev eth0" in said(bridged, client, "exec", box, "ip", "route", "show", "default")
    assert fetch("127.0.0.1", int(port))


def test_connecting_what_does_not_run(bridged, client, names):
    net = network(bridged, client, names)
    name = f"c-{client}"
    names.append(name)
    said(bridged, client, "create", "--name", name, "busybox", "sleep", "1000")
    said(bridged, client, "network", "connect", "--alias", "late", net, name)
    said(bridged, client, "network", "disconnect", "bridge", name)
    assert list(bridged.inspect(name)["NetworkSettings"]["Networks"]) == [net]
    said(bridged, client, "start", name)
    shown = said(bridged, client, "exec", name, "ip", "-o", "link").splitlines()
    assert [line.split()[1].partition("@")[0].strip(":") for line in shown] == ["lo", "eth0"]
    assert "nosuch" in said(bridged, client, "network", "connect", net, "nosuch", code=1)
    assert "network nosuch not found" in said(bridged, client, "network", "connect", "nosuch", name, code=1)


def test_host_none_and_what_they_refuse(bridged, client, names):
    host = said(bridged, client, "run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert host.strip() == os.readlink("/proc/self/ns/net")
    none = said(bridged, client, "run", "--rm", "--network", "none", "busybox", "ip", "-o", "link", "show")
    assert [line.split()[1] for line in none.splitlines()] == ["lo:"]
    box = started(bridged, client, names, "c", "--network", "none", "busybox", "sleep", "1000")
    shared = ("run", "--rm", "--network", f"container:{box}")
    for words, message in (
        ((*shared, "-p", "80", "busybox"), "port publishing and the container type network mode"),
        ((*shared, "--add-host", "a:192.0.2.1", "busybox"), "custom host-to-IP mapping and the network mode"),
        ((*shared, "--dns", "192.0.2.1", "busybox"), "dns and the network mode"),
        ((*shared, "-h", "x", "busybox"), "hostname and the network mode"),
        (("network", "connect", "bridge", box), "cannot be connected to multiple networks with one of the networks in private"),
        (("network", "connect", "host", box), "host"),
        (("run", "--rm", "--network", "host", "--network", "bridge", "busybox"), "network"),
    ):
        result = bridged.cli(client, *words, code=None)
        assert result.returncode, words
        assert message in result.stderr.decode(), words


def test_filters(bridged, client, names):
    net = network(bridged, client, names, "--label", f"filters={client}")
    used = network(bridged, client, names, "--label", f"filters={client}", "--label", "used", suffix="-used")
    started(bridged, client, names, "c", "--network", used, "busybox", "sleep", "1000")

    def found(*filters: str) -> set[str]:
        flags = [word for each in (f"label=filters={client}", *filters) for word in ("-f", each)]
        return set(said(bridged, client, "network", "ls", *flags, "--format", "{{.Name}}").split())

    assert found() == {net, used}
    assert found("label=used") == {used}
    assert found("dangling=true") == {net}
    assert found("dangling=false") == {used}
    assert found("driver=bridge", "scope=local", "type=custom") == {net, used}
    assert found("driver=macvlan") == set()
    assert found(f"name={used}") == {used}
    assert "nosuch" in said(bridged, client, "network", "ls", "-f", "nosuch=1", code=1)
    pruned = ("network", "prune", "-f", "--filter", f"label=filters={client}")
    assert said(bridged, client, *pruned, "--filter", "until=24h") == ""
    assert said(bridged, client, *pruned, "--filter", "label!=filters") == ""
    assert said(bridged, client, *pruned, "--filter", "until=0s") == f"Deleted Networks:\n{net}\n\n"
    shown = said(bridged, client, "ps", "-f", f"network={used}", "--format", "{{.Names}}")
    assert shown == f"c-{client}\n"


def test_a_config_only_network_is_a_template(bridged, client, names):
    base = subnet(bridged, 208)
    template = network(bridged, client, names, "--config-only", "--subnet", f"{base}0/24", suffix="-template")
    net = network(bridged, client, names, "--config-from", template)
    names.reverse()  # the template goes after what is made of it
    box = started(bridged, client, names, "c", "--network", net, "busybox", "sleep", "1000")
    assert bridged.inspect(box)["NetworkSettings"]["Networks"][net]["IPAddress"].startswith(base)
    refused = said(bridged, client, "run", "--rm", "--network", template, "busybox", "true", code=125)
    assert "cannot create endpoint on configuration-only network" in refused
