"""Published ports: who reaches them, what the container sees of him, and who doesn't."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import msgspec
import pytest
from boxrun.bus import BusError
from boxrun.network import firewall_rules as rules
from boxrun.network import nftables
from boxrun.network.contract import Listener, NetworkFailure, Networks, Nothing, Policy, Port, PublishRequest
from support import sctp
from support.networks import Lab, address
from support.runtime import eventually
from support.topology import (
    FAR,
    HOST,
    HOST6,
    HOST_ALIAS,
    NEIGHBOUR,
    NEIGHBOUR6,
    ask_udp,
    inside,
    listening,
    reach,
    unreachable,
)

EVERYWHERE = (("tcp", 8080, 80, "0.0.0.0"), ("tcp", 8080, 80, "::"))


async def test_other_hosts_reach_them_and_are_seen_as_themselves(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server, listening(one.path, 80, v6=True, address=address(one, 1)) as server6:
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert reach(lab.neighbour, HOST_ALIAS, 8080, server) == NEIGHBOUR
        assert reach(lab.far, HOST, 8080, server) == FAR
        assert reach(lab.neighbour, HOST6, 8080, server6) == NEIGHBOUR6


async def test_the_host_reaches_them_by_any_of_its_addresses(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server, listening(one.path, 80, v6=True, address=address(one, 1)) as server6:
        assert reach(lab.host, HOST, 8080, server) == HOST
        assert reach(lab.host, "10.1.0.1", 8080, server) == "10.1.0.1"
        assert reach(lab.host, "127.0.0.1", 8080, server) == "10.1.0.1"
        assert reach(lab.host, "127.0.0.7", 8080, server) == "10.1.0.1"
        assert reach(lab.host, HOST6, 8080, server6) == HOST6
        assert reach(lab.host, "::1", 8080, server6) == "fd00:1::1"


async def test_containers_reach_them_by_the_hosts_address(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one = await lab.on(first, ports=EVERYWHERE)
    same, other = await lab.on(first), await lab.on(second)
    with listening(one.path, 80) as server, listening(one.path, 80, v6=True, address=address(one, 1)) as server6:
        # On its own link the answer has to come back by way of the host.
        assert reach(same.path, HOST, 8080, server) == "10.1.0.1"
        assert reach(one.path, HOST, 8080, server) == "10.1.0.1"
        assert reach(other.path, HOST, 8080, server) == address(other)
        assert reach(other.path, "10.2.0.1", 8080, server) == address(other)
        assert reach(other.path, HOST6, 8080, server6) == address(other, 1)


async def test_a_container_on_both_networks_answers_by_the_way_it_was_asked(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one = await lab.on(first, second, ports=EVERYWHERE)
    other = await lab.on(second)
    with listening(one.path, 80) as server:
        assert reach(other.path, HOST, 8080, server) == "10.1.0.1"


async def test_udp(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=(("udp", 5353, 53, "0.0.0.0"), ("udp", 5353, 53, "::")))
    with (
        listening(one.path, 53, udp=True) as server,
        listening(one.path, 53, v6=True, udp=True, address=address(one, 1)) as server6,
    ):
        assert ask_udp(lab.neighbour, HOST, 5353, server) == NEIGHBOUR
        assert ask_udp(lab.host, "127.0.0.1", 5353, server) == "10.1.0.1"
        assert ask_udp(lab.neighbour, HOST6, 5353, server6) == NEIGHBOUR6


async def test_a_udp_client_finds_the_next_container_at_once(lab: Lab) -> None:
    network = await lab.network(1)
    ports = (("udp", 5353, 53, "0.0.0.0"),)
    one = await lab.on(network, ports=ports)
    client = inside(lab.neighbour, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with client:
        client.settimeout(8)
        client.connect((HOST, 5353))
        with listening(one.path, 53, udp=True) as server:
            client.send(b"first")
            assert server.recvfrom(10)[0] == b"first"
        await lab.stop(one)
        await lab.unplug(one.id)
        two = await lab.on(network, ports=ports)
        with listening(two.path, 53, udp=True) as server:

            def arrived() -> bool:
                client.send(b"second")
                server.settimeout(0.2)
                try:
                    return server.recvfrom(10)[0] == b"second"
                except TimeoutError:
                    return False

            await eventually(arrived, "a datagram at the second container", 8)


async def test_what_is_published_on_localhost_is_the_hosts_alone(lab: Lab) -> None:
    network = await lab.network(1)
    one, two = await lab.on(network, ports=(("tcp", 8080, 80, "127.0.0.1"),)), await lab.on(network)
    with listening(one.path, 80) as server:
        assert reach(lab.host, "127.0.0.1", 8080, server) == "10.1.0.1"
        assert unreachable(lab.neighbour, HOST, 8080)
        assert unreachable(lab.host, HOST, 8080)
        # A neighbour on the link, or a container, sends to 127.0.0.1 at the host's MAC address.
        lab.net.ip(lab.net.neighbour, "address", "delete", "127.0.0.1/8", "dev", "lo")
        lab.net.ip(lab.net.neighbour, "route", "add", "127.0.0.1/32", "via", HOST, "dev", "eth0", "src", NEIGHBOUR)
        inside(lab.neighbour, lambda: _write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))
        assert unreachable(lab.neighbour, "127.0.0.1", 8080)
        lab.net.run(lab.net.host, "nsenter", f"--net={two.path}", "ip", "address", "delete", "127.0.0.1/8", "dev", "lo")
        lab.net.run(
            lab.net.host,
            "nsenter",
            f"--net={two.path}",
            "ip",
            "route",
            "add",
            "127.0.0.1/32",
            "via",
            "10.1.0.1",
            "src",
            address(two),
        )
        inside(two.path, lambda: _write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))
        with listening(lab.host, 9090, address="127.0.0.1"):
            assert unreachable(two.path, "127.0.0.1", 8080)
            assert unreachable(two.path, "127.0.0.1", 9090)


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)


async def test_one_address_of_the_host_is_one_address(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=(("tcp", 8080, 80, HOST_ALIAS),))
    with listening(one.path, 80) as server, listening(lab.host, 8080, address=HOST) as program:
        assert reach(lab.neighbour, HOST_ALIAS, 8080, server) == NEIGHBOUR
        assert reach(lab.neighbour, HOST, 8080, program) == NEIGHBOUR


async def test_a_port_taken_is_refused_and_leaves_nothing(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(lab.host, 9090):
        before = lab.kernel_state()
        rules = lab.net.run(lab.net.host, "nft", "list", "ruleset")
        for taken in (8080, 9090):
            with pytest.raises(BusError) as caught:
                await lab.on(network, ports=(("tcp", 7070, 70, "0.0.0.0"), ("tcp", taken, 80, "0.0.0.0")))
            detail = caught.value.detail(NetworkFailure)
            assert detail is not None
            assert (detail.kind, detail.port and detail.port.host_port) == ("port", taken)
        with pytest.raises(BusError) as caught:
            await lab.on(network, ports=(("tcp", 7071, 70, "192.0.2.77"),))
        detail = caught.value.detail(NetworkFailure)
        assert detail is not None
        assert detail.kind == "address"
        await eventually(lambda: lab.kernel_state() == before, f"{lab.kernel_state()} instead of {before}")
        assert lab.net.run(lab.net.host, "nft", "list", "ruleset") == rules
    with pytest.raises(OSError, match="in use"), listening(lab.host, 8080):
        pass
    await lab.stop(one)
    await lab.unplug(one.id)
    with listening(lab.host, 8080):
        pass


async def test_ports_change_while_the_container_runs(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"),))
    kept = one.reply.ports[0]
    added = Port(protocol="tcp", container_port=80, endpoint=kept.endpoint)
    with listening(one.path, 80) as server:
        request = PublishRequest(container=one.id, ports=(kept, added))
        reply = await lab.supervisor.bus.unary(Networks.publish, request, timeout=10)
        chosen = reply.ports[1].host_port
        assert chosen
        assert reach(lab.neighbour, HOST, chosen, server) == NEIGHBOUR
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        await lab.supervisor.bus.unary(Networks.publish, PublishRequest(container=one.id, ports=(reply.ports[1],)), timeout=10)
        assert unreachable(lab.neighbour, HOST, 8080)
        assert reach(lab.neighbour, HOST, chosen, server) == NEIGHBOUR


async def test_a_port_moves_from_one_endpoint_to_another(lab: Lab) -> None:
    first, second = await lab.network(1), await lab.network(2)
    one = await lab.on(first, second, ports=(("tcp", 8080, 80, "0.0.0.0"),))
    (kept,) = one.reply.ports
    moved = msgspec.structs.replace(kept, endpoint=one.request.endpoints[1].id)
    with listening(one.path, 80, address=address(one, endpoint=1)) as server:
        assert unreachable(lab.neighbour, HOST, 8080)
        request = PublishRequest(container=one.id, ports=(moved,))
        reply = await lab.supervisor.bus.unary(Networks.publish, request, timeout=10)
        assert reply.ports == (moved,)
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        with pytest.raises(OSError, match="in use"), listening(lab.host, 8080):
            pass


async def test_rules_are_made_anew_after_a_flush_and_others_are_left_alone(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=EVERYWHERE)
    lab.net.run(
        lab.net.host,
        "nft",
        "add table inet theirs; add chain inet theirs c { type filter hook input priority 5; }; add rule inet theirs c tcp dport 99 drop",
    )
    theirs = lab.net.run(lab.net.host, "nft", "list", "table", "inet", "theirs")
    with listening(one.path, 80) as server:
        for what in ("flush ruleset", "delete table inet", "flush chain inet"):
            table = next(
                name.split()[-1]
                for name in lab.net.run(lab.net.host, "nft", "list", "tables").splitlines()
                if "boxship" in name
            )
            command = {
                "flush ruleset": what,
                "delete table inet": f"{what} {table}",
                "flush chain inet": f"{what} {table} arriving",
            }[what]
            lab.net.run(lab.net.host, "nft", command)
            assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
    lab.net.run(
        lab.net.host,
        "nft",
        "add table inet theirs; add chain inet theirs c { type filter hook input priority 5; }; add rule inet theirs c tcp dport 99 drop",
    )
    await lab.stop(one)
    await lab.remove(network)
    assert lab.net.run(lab.net.host, "nft", "list", "table", "inet", "theirs") == theirs
    lab.net.run(lab.net.host, "nft", "delete table inet theirs")


async def test_containers_do_not_reach_the_engines_own_listeners(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network)
    listeners = (Listener(address="0.0.0.0", port=2375), Listener(address=HOST, port=2376), Listener(address="::", port=2377))
    await lab.supervisor.bus.unary(Networks.policy, Policy(guarded=listeners), timeout=10)
    with listening(lab.host, 2375) as server, listening(lab.host, 2376) as second, listening(lab.host, 2377, v6=True):
        for target in (HOST, "10.1.0.1", HOST_ALIAS):
            assert unreachable(one.path, target, 2375)
        assert unreachable(one.path, HOST, 2376)
        assert reach(one.path, HOST_ALIAS, 2376, second) == address(one)
        assert unreachable(one.path, HOST6, 2377)
        assert reach(lab.neighbour, HOST, 2375, server) == NEIGHBOUR
        await lab.supervisor.kill()
        await lab.supervisor.start()
        assert unreachable(one.path, HOST, 2375)


async def test_published_ports_can_obey_the_hosts_input_rules(lab: Lab) -> None:
    network = await lab.network(1)
    bus = lab.supervisor.bus
    lab.net.run(
        lab.net.host,
        "nft",
        "add table inet ufw; add chain inet ufw input { type filter hook input priority 0; policy drop; }; "
        "add rule inet ufw input ct state established,related accept; add rule inet ufw input meta l4proto ipv6-icmp accept; "
        f"add rule inet ufw input iif lo accept; add rule inet ufw input ip saddr {NEIGHBOUR} tcp dport 8080 accept; "
        f"add rule inet ufw input ip saddr {NEIGHBOUR} udp dport 5353 accept; "
        f"add rule inet ufw input ip6 saddr {NEIGHBOUR6} tcp dport 8080 accept",
    )
    inside(lab.host, lambda: _write("/proc/sys/net/ipv4/conf/all/rp_filter", "1"))
    ports = (*EVERYWHERE, ("tcp", 8081, 80, "0.0.0.0"), ("udp", 5353, 53, "0.0.0.0"))
    one, same = await lab.on(network, ports=ports), await lab.on(network)
    with listening(one.path, 80) as server, listening(one.path, 80, v6=True, address=address(one, 1)) as server6:
        assert reach(lab.far, HOST, 8080, server) == FAR
        await bus.unary(Networks.policy, Policy(respect_input=True), timeout=10)
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert reach(lab.neighbour, HOST6, 8080, server6) == NEIGHBOUR6
        assert unreachable(lab.far, HOST, 8080)
        assert unreachable(lab.neighbour, HOST, 8081)
        assert reach(lab.host, "127.0.0.1", 8081, server) == "10.1.0.1"
        assert reach(same.path, HOST, 8081, server) == "10.1.0.1"
        with listening(one.path, 53, udp=True) as datagrams:
            assert ask_udp(lab.neighbour, HOST, 5353, datagrams) == NEIGHBOUR
        await bus.unary(Networks.policy, Policy(), timeout=10)
        assert reach(lab.far, HOST, 8080, server) == FAR
    lab.net.run(lab.net.host, "nft", "delete table inet ufw")


def _side_door(lab: Lab) -> None:
    """Another way from the neighbour, by the host, to the far end."""
    lab.net.ip(lab.net.neighbour, "route", "add", "203.0.113.0/24", "via", HOST)
    lab.net.ip(lab.net.host, "link", "add", "side0", "type", "veth", "peer", "name", "eth1", "netns", lab.net.far)
    lab.net.ip(lab.net.host, "address", "add", "203.0.113.1/24", "dev", "side0")
    lab.net.ip(lab.net.host, "link", "set", "side0", "up")
    lab.net.ip(lab.net.far, "address", "add", "203.0.113.2/24", "dev", "eth1")
    lab.net.ip(lab.net.far, "link", "set", "eth1", "up")
    lab.net.ip(lab.net.far, "route", "add", "192.0.2.0/24", "via", "203.0.113.1")


async def test_the_host_forwards_only_for_networks(lab: Lab) -> None:
    _side_door(lab)
    await lab.network(1)
    assert (await lab.supervisor.bus.unary(Networks.features, Nothing(), timeout=30)).refusals.keys() == {"ipvlan"}
    with listening(lab.far, 80) as server:
        assert unreachable(lab.neighbour, "203.0.113.2", 80)
        await lab.supervisor.bus.unary(Networks.policy, Policy(forward_drop=False), timeout=10)
        assert reach(lab.neighbour, "203.0.113.2", 80, server) == NEIGHBOUR
    await lab.supervisor.end()
    assert lab.net.run(lab.net.host, "sysctl", "-n", "net.ipv4.ip_forward") == "0\n"
    lab.net.ip(lab.net.host, "link", "delete", "side0")


async def test_the_firewall_translates_sctp_like_all_else(lab: Lab) -> None:
    """Packets and the firewall's element alone: a kernel without sockets for SCTP translates it, but lets no port be held."""
    network = await lab.network(1)
    one = await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"),))
    table = next(line.split()[-1] for line in lab.net.run(lab.net.host, "nft", "list", "tables").splitlines())
    asked = (("0.0.0.0", 0), (HOST6, 1))
    elements = [rules.published("sctp", ip_address(host), 8080, ip_address(address(one, index)), 80) for host, index in asked]

    def publish() -> None:
        batch = nftables.Batch("inet", table)
        rules.add_elements(batch, elements)
        with nftables.socket_here() as sock:
            nftables.commit(sock, batch)

    inside(lab.host, publish)
    for path in (lab.neighbour, lab.far, lab.host):
        for host in (HOST, HOST6):
            assert sctp.arrives(path, host, 8080, one.path, expected=True, inner=80), (path, host)
    assert not sctp.arrives(lab.neighbour, HOST, 8081, one.path, expected=False, inner=80)
