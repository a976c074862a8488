"""Names and name servers with the command lines that others have made for Docker, and with our own."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import wait_until
from support.network_cli import CLIENTS, network, said, started

pytestmark = needs_root

OWN_SERVER = ("nc", "-ll", "-p", "53", "-e", "echo", "my own")
QUERY = r"\000\030\000\007\001\000\000\001\000\000\000\000\000\000\006target\000\000\001\000\001"
"""As it goes over TCP: its length, 24 bytes, and the question for the address of ``target``."""
ASK_BY_TCP = f"printf '{QUERY}' | nc -w 2 127.0.0.11 53 | tail -c 4 | hexdump -e '4/1 \"%d.\"'"


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def address(daemon, name: str, net: str) -> str:
    """A container's address on a network."""
    return daemon.inspect(name)["NetworkSettings"]["Networks"][net]["IPAddress"]


def test_containers_of_one_alias_have_their_turns(bridged, client, names):
    net = network(bridged, client, names)
    boxes = [
        started(bridged, client, names, f"c{number}", "--network", net, "--network-alias", "web", "busybox", "sleep", "1000")
        for number in range(2)
    ]
    everybody = {address(bridged, box, net) for box in boxes}

    def first() -> str:
        """The first address that comes."""
        shown = said(bridged, client, "exec", boxes[0], "nslookup", "-type=a", "web")
        return re.findall(r"^Address: (10\S+)$", shown, re.MULTILINE)[0]

    wait_until(lambda: {first() for _ in range(2)} == everybody, "both have had their turn")
    said(bridged, client, "rm", "-f", boxes[1])
    assert first() == address(bridged, boxes[0], net)


def test_names_over_tcp(bridged, client, names):
    net = network(bridged, client, names)
    box = started(bridged, client, names, "c", "--network", net, "--network-alias", "target", "busybox", "sleep", "1000")
    assert said(bridged, client, "exec", box, "sh", "-c", ASK_BY_TCP).strip(".") == address(bridged, box, net)


def test_a_container_that_has_port_53_itself(bridged, client, names):
    net = network(bridged, client, names)
    server = started(bridged, client, names, "dns", "--network", net, "-p", "127.0.0.1::53", "busybox", *OWN_SERVER)
    other = started(bridged, client, names, "other", "--network", net, "--network-alias", "target", "busybox", "sleep", "1000")
    place = address(bridged, other, net)
    wait_until(lambda: said(bridged, client, "exec", other, "nc", server, "53", code=None) == "my own\n", "its own answer")
    with socket.create_connection(("127.0.0.1", int(said(bridged, client, "port", server).rpartition(":")[2])), 10) as sock:
        assert sock.makefile().read() == "my own\n"
    assert f"Address: {place}" in said(bridged, client, "exec", server, "nslookup", other)
    assert said(bridged, client, "exec", server, "sh", "-c", ASK_BY_TCP).strip(".") == place


def test_flags_for_names(bridged, client):
    flags = ("--dns", "192.0.2.53", "--dns-search", "a.example", "--dns-search", "b.example", "--dns-option", "timeout:1")
    text = said(bridged, client, "run", "--rm", *flags, "busybox", "cat", "/etc/resolv.conf")
    assert "nameserver 192.0.2.53\n" in text
    assert "search a.example b.example\n" in text
    assert "options timeout:1\n" in text
    hosts = ("--add-host", "one:192.0.2.1", "--add-host", "six=[2001:db8::6]", "-h", "box.example")
    text = said(bridged, client, "run", "--rm", *hosts, "busybox", "cat", "/etc/hosts")
    assert "192.0.2.1\tone\n" in text
    assert "2001:db8::6\tsix\n" in text
    assert "\tbox.example box\n" in text
    text = said(bridged, client, "run", "--rm", "-h", "box", "--domainname", "example", "busybox", "cat", "/etc/hosts")
    assert "\tbox.example box\n" in text
    none = said(bridged, client, "run", "--rm", "--dns-search", ".", "busybox", "cat", "/etc/resolv.conf")
    assert "search" not in none


def test_links_on_a_network_of_ones_own(bridged, client, names):
    net = network(bridged, client, names)
    db = started(bridged, client, names, "db", "--network", net, "busybox", "sleep", "1000")
    box = started(bridged, client, names, "c", "--network", net, "--link", f"{db}:database", "busybox", "sleep", "1000")
    other = started(bridged, client, names, "other", "--network", net, "busybox", "sleep", "1000")
    assert f"Address: {address(bridged, db, net)}" in said(bridged, client, "exec", box, "nslookup", "database")
    assert "NXDOMAIN" in said(bridged, client, "exec", other, "nslookup", "database", code=None)


def test_etc_hosts_follows_networks_and_keeps_what_the_container_wrote(bridged, client, names):
    net = network(bridged, client, names)
    box = started(bridged, client, names, "c", "-h", "box", "busybox", "sleep", "1000")
    said(bridged, client, "exec", box, "sh", "-c", "echo '203.0.113.1 mine' >>/etc/hosts")
    said(bridged, client, "network", "connect", net, box)
    line = f"{address(bridged, box, net)}\tbox\n"
    text = said(bridged, client, "exec", box, "cat", "/etc/hosts")
    assert line in text
    assert "203.0.113.1 mine\n" in text
    said(bridged, client, "network", "disconnect", net, box)
    text = said(bridged, client, "exec", box, "cat", "/etc/hosts")
    assert line not in text
    assert "203.0.113.1 mine\n" in text


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
