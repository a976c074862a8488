"""A host's own firewall beside a whole daemon's: neither changes the other, whichever is there first and whatever is flushed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from conftest import needs_root
from support.busybox import busybox_archive
from support.daemon import wait_until
from support.site import Site, served
from support.topology import (
    FAR,
    HOST,
    HOST6,
    NEIGHBOUR,
    NEIGHBOUR6,
    Topology,
    ask_udp,
    listening,
    none_reach,
    reach,
    topology,
    unheard,
)

pytestmark = needs_root

USERS_IPTABLES = (
    "iptables -A INPUT -p tcp --dport 9999 -j DROP",
    "iptables -A FORWARD -s 203.0.113.0/24 -j DROP",
    "iptables -t nat -A PREROUTING -p tcp --dport 7070 -j REDIRECT --to-ports 7071",
    "iptables -t mangle -A PREROUTING -p tcp --dport 7072 -j MARK --set-mark 7",
    "ip6tables -A INPUT -p tcp --dport 9999 -j DROP",
)
USERS_NFTABLES = """
table inet users {
  set known { type ipv4_addr; elements = { 203.0.113.1 } }
  chain input { type filter hook input priority 5; policy accept; ip saddr @known drop; tcp dport 99 drop; }
  chain forward { type filter hook forward priority -5; policy accept; tcp dport 98 counter drop; }
}
"""
UFW = (
    "{0} -P INPUT DROP",
    "{0} -A INPUT -i lo -j ACCEPT",
    "{0} -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    "{0} -A INPUT -p {2} -j ACCEPT",
    "{0} -A INPUT -s {1} -p tcp --dport 8080 -j ACCEPT",
    "{0} -A INPUT -s {1} -p udp --dport 8080 -j ACCEPT",
)
"""What ufw's rules come to where a neighbour was allowed to reach port 8080."""


def nft(net: Topology, text: str) -> None:
    """Give the host's nftables a file, as its service does at a reload."""
    command = ["nsenter", f"--net=/run/netns/{net.host}", "nft", "-f", "-"]
    subprocess.run(command, input=text.encode(), check=True)


def users_rules(net: Topology) -> str:
    """The user's rules, without counters."""
    saved = net.run(net.host, "iptables-save") + net.run(net.host, "ip6tables-save")
    lines = [line for line in saved.splitlines() if not line.startswith("#")]
    return "\n".join(lines) + net.run(net.host, "nft", "-s", "list", "table", "inet", "users")


def exercise(site: Site) -> None:
    """Everything a daemon does about firewalls: networks and ports that come and go."""
    network, inner = site.network(), site.network(internal=True)
    one, two = site.container(network, ports=(("tcp", "", 8080, 80), ("udp", "", 8080, 80))), site.container(inner)
    site.ask("POST", f"/networks/{network}/connect", {"Container": two.name})
    with listening(one.path, 80) as server, listening(one.path, 80, v6=True, address=one.v6) as server6:
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert reach(site.neighbour, HOST6, 8080, server6) == NEIGHBOUR6
    site.ask("POST", f"/networks/{network}/disconnect", {"Container": two.name})
    site.clear()


@pytest.fixture
def net() -> Iterator[Topology]:
    """A small internet."""
    with topology() as made:
        yield made


@pytest.fixture
def ruled(net: Topology) -> Topology:
    """The same, whose host has rules of its user's before any daemon starts."""
    for rule in USERS_IPTABLES:
        net.run(net.host, *rule.split())
    nft(net, USERS_NFTABLES)
    return net


def test_rules_that_were_there_before_stay_as_they_are(ruled: Topology) -> None:
    before = users_rules(ruled)
    with served(ruled, busybox_archive()) as site:
        exercise(site)
        assert users_rules(ruled) == before
        one = site.container(site.network(), ports=(("tcp", "", 99, 80), ("tcp", "", 98, 98)))
        with listening(one.path, 80) as server, listening(one.path, 98):
            # What the user drops where packets are forwarded is dropped; the host's input isn't on the way.
            assert reach(site.neighbour, HOST, 99, server) == NEIGHBOUR
            assert none_reach([(site.neighbour, HOST, 98)]) == []
        site.clear()
    assert users_rules(ruled) == before


def test_rules_that_come_later_stay_and_so_do_ours(site: Site) -> None:
    one = site.container(site.network(), ports=(("tcp", "", 8080, 80),))
    net = site.net
    for rule in USERS_IPTABLES:
        net.run(net.host, *rule.split())
    nft(net, USERS_NFTABLES)
    before = users_rules(net)
    try:
        with listening(one.path, 80) as server:
            assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
        other = site.container(site.network(), ports=(("tcp", "", 8081, 80),))
        with listening(other.path, 80) as server:
            assert reach(site.neighbour, HOST, 8081, server) == NEIGHBOUR
        assert users_rules(net) == before
    finally:
        nft(net, "flush ruleset")


@pytest.mark.parametrize(
    "flush",
    [
        pytest.param("nft flush ruleset", id="nft"),
        pytest.param("nft delete table inet {table}", id="table"),
        pytest.param("nft flush table inet {table}", id="rules"),
        pytest.param("nft -f", id="reload"),
        pytest.param("iptables -F; iptables -X; iptables -t nat -F; ip6tables -F; ip6tables -t nat -F", id="iptables"),
    ],
)
def test_a_flush_is_repaired(site: Site, flush: str) -> None:
    table = site.daemon.table
    one = site.container(site.network(), ports=(("tcp", "", 8080, 80), ("tcp", "127.0.0.1", 8081, 81)))
    other = site.container(site.network())
    rules = site.net.run(site.net.host, "nft", "list", "table", "inet", table)
    with listening(one.path, 80) as server, listening(one.path, 81):
        if flush == "nft -f":
            nft(site.net, f"flush ruleset\n{USERS_NFTABLES}")
        else:
            for command in flush.format(table=table).split("; "):
                site.net.run(site.net.host, *command.split())
        # The connection's first packet may come while the rules are away; it is sent again.
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR

        def again() -> bool:
            done = subprocess.run(
                ["nsenter", f"--net={site.host}", "nft", "list", "table", "inet", table],
                capture_output=True,
                text=True,
                check=False,
            )
            return sorted(done.stdout.split()) == sorted(rules.split())

        wait_until(again, "the table is as it was")
        assert none_reach([(site.neighbour, HOST, 8081), (other.path, one.v4, 80)]) == []
        if flush == "nft -f":
            site.net.run(site.net.host, "nft", "delete", "table", "inet", "users")


def test_published_ports_obey_the_hosts_input_rules_where_wished(net: Topology) -> None:
    for command, allowed, icmp in (("iptables", NEIGHBOUR, "icmp"), ("ip6tables", NEIGHBOUR6, "ipv6-icmp")):
        for rule in UFW:
            net.run(net.host, *rule.format(command, allowed, icmp).split())
    saved = net.run(net.host, "iptables-save", "-t", "filter")
    with served(net, busybox_archive(), "--firewall-respect-input") as site:
        network = site.network()
        one = site.container(network, ports=(("tcp", "", 8080, 80), ("udp", "", 8080, 80), ("tcp", "", 8081, 80)))
        same, other = site.container(network), site.container(site.network())
        with (
            listening(one.path, 80) as server,
            listening(one.path, 80, v6=True, address=one.v6) as server6,
            listening(one.path, 80, udp=True) as datagrams,
        ):
            assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
            assert reach(site.neighbour, HOST6, 8080, server6) == NEIGHBOUR6
            assert ask_udp(site.neighbour, HOST, 8080, datagrams) == NEIGHBOUR
            assert none_reach([(site.far, HOST, 8080), (site.neighbour, HOST, 8081), (site.neighbour, HOST6, 8081)]) == []
            assert unheard(datagrams, [(site.far, HOST, 8080)])
            # The host itself, and its containers, are inside.
            assert reach(site.host, "127.0.0.1", 8081, server) == one.gateway
            assert reach(same.path, HOST, 8081, server) == one.gateway
            assert reach(other.path, HOST, 8081, server) == other.v4
            # Allowed afterwards, as by `ufw allow`.
            net.run(net.host, "iptables", "-I", "INPUT", "-s", FAR, "-p", "tcp", "--dport", "8080", "-j", "ACCEPT")
            assert reach(site.far, HOST, 8080, server) == FAR
            net.run(net.host, "iptables", "-D", "INPUT", "-s", FAR, "-p", "tcp", "--dport", "8080", "-j", "ACCEPT")
        site.clear()

    def rules(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith(("#", ":"))]

    assert rules(net.run(net.host, "iptables-save", "-t", "filter")) == rules(saved)


def test_two_daemons_in_one_network_namespace(site: Site) -> None:
    """Each has its own table, bridges and pools; neither minds the other, nor what the other leaves."""
    with served(site.net, busybox_archive(), alone=False) as second:
        mine, theirs = (
            each.container(each.network(), ports=(("tcp", "", port, 80),)) for each, port in ((site, 8080), (second, 8081))
        )
        default = (site.container(), second.container())
        assert default[0].gateway != default[1].gateway
        tables = site.net.run(site.net.host, "nft", "list", "tables").split()
        assert {site.daemon.table, second.daemon.table} <= set(tables)
        with listening(mine.path, 80) as server, listening(theirs.path, 80) as their_server:
            assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
            assert reach(site.neighbour, HOST, 8081, their_server) == NEIGHBOUR
            assert none_reach([(mine.path, theirs.v4, 80), (theirs.path, mine.v4, 80)]) == []
            assert reach(mine.path, HOST, 8081, their_server) == theirs.gateway
            body = {
                "Image": "busybox",
                "Cmd": ["true"],
                "HostConfig": {"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": "8080"}]}},
            }
            second.ask("POST", "/containers/create?name=late", body)
            status, answer = second.daemon.request("POST", "/containers/late/start")
            assert status == 500
            assert "failed to bind host port 0.0.0.0:8080" in answer["message"]
            assert "address already in use" in answer["message"]
            second.ask("DELETE", "/containers/late")
        second.clear()
    with listening(mine.path, 80) as server:
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR


def test_the_first_daemon_leaves_the_second_what_both_need(net: Topology) -> None:
    """It was the first for which the host began to forward; the second's containers still need that."""
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        one = first.enter_context(served(net, busybox_archive(), alone=False))
        one.container(one.network())
        two = stack.enter_context(served(net, busybox_archive()))
        box = two.container(two.network(), ports=(("tcp", "", 8080, 80),))
        first.close()
        with listening(box.path, 80) as server, listening(two.far, 90) as outside:
            assert reach(two.neighbour, HOST, 8080, server) == NEIGHBOUR
            assert reach(box.path, FAR, 90, outside) == HOST
        two.clear()
