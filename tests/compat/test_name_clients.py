"""Names and name servers with the command lines that others have made for Docker, and with our own."""

from __future__ import annotations

import re
import socket

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
