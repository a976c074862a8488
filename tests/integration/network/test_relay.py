"""Published ports that the firewall can't translate: they are relayed, whoever dies."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from boxrun.bus import BusError
from boxrun.network.contract import Endpoint, NetworkFailure, Networks, Policy, Port, PublishRequest
from support.networks import Lab, address, identity
from support.runtime import eventually
from support.topology import HOST, HOST6, NEIGHBOUR, PATIENCE, ask_udp, inside, listening, reach, unreachable

BRIDGE_SETTING = "/proc/sys/net/bridge/bridge-nf-call-ip6tables"
EVERYWHERE = (("tcp", 8080, 80, "0.0.0.0"), ("tcp", 8080, 80, "::"))
BOTH6 = (("tcp", 8080, 80, "::"), ("udp", 5353, 53, "::"))


def relay(lab: Lab) -> int:
    """The relay's process, 0 where there is none."""
    run = str(lab.supervisor.run).encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes()
                if b"boxrun.network.relay" in words and run in words:
                    return int(entry.name)
    return 0


def write(path: str, value: str) -> None:
    Path(path).write_text(value)


def connect(lab: Lab, address: str = HOST6, *, path: str = "") -> socket.socket:
    """A connection to the published port."""
    client = inside(path or lab.neighbour, lambda: socket.create_connection((address, 8080), PATIENCE))
    client.settimeout(PATIENCE)
    return client


async def test_loopback_where_bridges_show_ipv6_packets_to_the_firewall(lab: Lab) -> None:
    if not os.path.exists(BRIDGE_SETTING):
        pytest.skip("br_netfilter isn't loaded")
    assert inside(lab.host, lambda: Path(BRIDGE_SETTING).read_text()) == "1\n"
    network = await lab.network(1)
    one = await lab.on(network, ports=BOTH6)
    with listening(one.path, 80, v6=True) as server, listening(one.path, 53, v6=True, udp=True) as datagrams:
        assert reach(lab.host, "::1", 8080, server) == "fd00:1::1"
        assert ask_udp(lab.host, "::1", 5353, datagrams) == "fd00:1::1"
        # All other addresses are the firewall's still.
        assert reach(lab.host, HOST6, 8080, server) == HOST6
        assert reach(lab.neighbour, HOST6, 8080, server) != "fd00:1::1"


async def test_where_the_firewall_serves_everything_nobody_relays(lab: Lab) -> None:
    if os.path.exists(BRIDGE_SETTING):
        inside(lab.host, lambda: write(BRIDGE_SETTING, "0"))
        await lab.supervisor.kill()
        await lab.supervisor.start()
    network = await lab.network(1)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80, v6=True) as server:
        assert reach(lab.host, "::1", 8080, server) == "fd00:1::1"
        assert not relay(lab)
        if not os.path.exists(BRIDGE_SETTING):
            return
        # Somebody loads br_netfilter while containers run: the next one that has ports brings the relay for all of them.
        inside(lab.host, lambda: write(BRIDGE_SETTING, "1"))
        await lab.on(network, ports=(("tcp", 8081, 80, "::"),))
        assert reach(lab.host, "::1", 8080, server) == "fd00:1::1"
        assert relay(lab)


async def test_an_ipv6_address_of_the_host_leads_to_a_container_that_has_ipv4(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=(*EVERYWHERE, ("udp", 5353, 53, "::")))
    with listening(one.path, 80) as server, listening(one.path, 53, udp=True) as datagrams:
        assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
        assert reach(lab.host, "::1", 8080, server) == "10.1.0.1"
        assert ask_udp(lab.neighbour, HOST6, 5353, datagrams) == "10.1.0.1"
        assert ask_udp(lab.host, "::1", 5353, datagrams) == "10.1.0.1"
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR


async def test_an_ipv4_address_of_the_host_leads_to_a_container_that_has_ipv6(lab: Lab) -> None:
    network = await lab.network(1, subnets=("fd00:1::/64",), addresses=("fd00:1::1/64",))
    endpoint = Endpoint(id=identity(), network=network.id, addresses=("fd00:1::2/64",), gateway_v6="fd00:1::1")
    port = Port(protocol="tcp", container_port=80, endpoint=endpoint.id, host_address=HOST, host_port=8080)
    one = await lab.container(endpoint, ports=(port,))
    with listening(one.path, 80, v6=True) as server:
        assert reach(lab.neighbour, HOST, 8080, server) == "fd00:1::1"


async def test_everything_arrives_and_each_side_may_stop_talking(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    content = os.urandom(1 << 20) * 8
    with listening(one.path, 80) as server, connect(lab) as client:
        accepted, _ = server.accept()
        accepted.settimeout(PATIENCE)

        with accepted:
            with saying(client, content):
                assert everything(accepted) == content
            # The client has nothing more to say, and still listens.
            with saying(accepted, content):
                assert everything(client) == content


@contextmanager
def saying(sock: socket.socket, content: bytes) -> Iterator[None]:
    """Meanwhile say something, and then nothing more."""

    def talk() -> None:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)

    talking = threading.Thread(target=talk)
    talking.start()
    yield
    talking.join()


def everything(sock: socket.socket) -> bytes:
    """What comes until the other side has nothing more to say."""
    pieces = []
    while piece := sock.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)


async def test_at_a_port_where_the_container_does_not_listen_a_client_is_told_so(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    await lab.on(network, ports=EVERYWHERE)
    with connect(lab) as client, pytest.raises(ConnectionResetError):
        client.recv(1)


async def test_the_relay_is_killed(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=(*EVERYWHERE, ("udp", 5353, 53, "::")))
    with listening(one.path, 80) as server, listening(one.path, 53, udp=True) as datagrams:
        assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
        first = relay(lab)
        os.kill(first, signal.SIGKILL)
        # A client that comes meanwhile waits in the socket's queue, which the supervisor has too.
        assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
        assert relay(lab) not in (0, first)
        assert ask_udp(lab.neighbour, HOST6, 5353, datagrams) == "10.1.0.1"


async def test_the_supervisor_is_killed(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server, connect(lab) as client:
        accepted, _ = server.accept()
        with accepted:
            await lab.supervisor.kill()
            client.sendall(b"one")
            assert accepted.recv(3) == b"one"
            assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
            first = relay(lab)
            await lab.supervisor.start()
            client.sendall(b"two")
            assert accepted.recv(3) == b"two"
            assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
            assert relay(lab) == first
            # The new supervisor has the sockets as well: it can do without this relay.
            os.kill(first, signal.SIGKILL)
            assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
    await lab.stop(one)
    await lab.unplug(one.id)
    with listening(lab.host, 8080, v6=True):
        pass


async def test_both_are_killed(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server:
        await lab.supervisor.kill()
        os.kill(relay(lab), signal.SIGKILL)
        await eventually(lambda: not relay(lab), "the relay's end")
        await lab.supervisor.start()
        assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"


async def test_a_containers_end_ends_what_is_relayed_and_frees_its_ports(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one, two = await lab.on(network, ports=BOTH6), await lab.on(network, ports=(("tcp", 8081, 80, "::"),))
    with listening(one.path, 80) as server, listening(two.path, 80) as other, connect(lab) as client:
        with server.accept()[0] as accepted:
            # This end is the test's and not the container's: closed as it is, it would keep the namespace for a while.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await lab.stop(one)
            await lab.unplug(one.id)
            with listening(lab.host, 8080, v6=True), listening(lab.host, 5353, v6=True, udp=True):
                pass
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        assert reach(lab.neighbour, HOST6, 8081, other) == "10.1.0.1"


async def test_a_container_that_ends_without_a_supervisor_is_let_go_of_by_the_next(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    await lab.supervisor.kill()
    os.kill(one.pid, signal.SIGKILL)
    await lab.supervisor.start()

    def free() -> bool:
        with suppress(OSError), listening(lab.host, 8080, v6=True):
            return True
        return False

    await eventually(free, "the port is free")


async def test_a_relay_that_does_nothing_is_replaced(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one, two = await lab.on(network, ports=EVERYWHERE), await lab.on(network, ports=(("tcp", 8081, 80, "::"),))
    first = relay(lab)
    os.kill(first, signal.SIGSTOP)
    await lab.stop(one)
    await lab.unplug(one.id)
    with listening(lab.host, 8080, v6=True), listening(two.path, 80) as server:
        assert reach(lab.neighbour, HOST6, 8081, server) == "10.1.0.1"
    assert relay(lab) not in (0, first)


async def test_ports_come_and_go_while_connections_go_on(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server, connect(lab) as client:
        accepted, _ = server.accept()
        with accepted:
            endpoint = one.reply.ports[0].endpoint
            other = Port(protocol="tcp", container_port=80, endpoint=endpoint, host_address="::", host_port=8082)
            await lab.supervisor.bus.unary(Networks.publish, PublishRequest(container=one.id, ports=(other,)), timeout=10)
            client.sendall(b"on")
            assert accepted.recv(2) == b"on"
        assert unreachable(lab.neighbour, HOST6, 8080)
        assert reach(lab.neighbour, HOST6, 8082, server) == "10.1.0.1"


async def test_an_internal_network_does_not_reach_the_relay(lab: Lab) -> None:
    network, other, inner = await lab.network(1, v6=False), await lab.network(2), await lab.network(3, internal=True)
    one = await lab.on(network, ports=BOTH6)
    outside, inner_one = await lab.on(other), await lab.on(inner)
    with listening(one.path, 80) as server:
        assert reach(outside.path, "fd00:2::1", 8080, server) == "10.1.0.1"
        assert reach(outside.path, HOST6, 8080, server) == "10.1.0.1"
        assert unreachable(inner_one.path, "fd00:3::1", 8080)
        with listening(lab.host, 9090, v6=True) as program:
            assert reach(inner_one.path, "fd00:3::1", 9090, program) == "fd00:3::2"


async def test_neighbours_that_are_kept_apart_have_published_ports_by_the_relay(lab: Lab) -> None:
    """Where bridges show packets to the firewall, and where it is wanted."""
    if not os.path.exists(BRIDGE_SETTING):
        pytest.skip("br_netfilter isn't loaded")
    network, other = await lab.network(1, icc=False), await lab.network(2)
    one = await lab.on(network, ports=(("tcp", 8080, 80, "0.0.0.0"), ("udp", 5353, 53, HOST)))
    same, stranger = await lab.on(network), await lab.on(other)
    with listening(one.path, 80) as server, listening(one.path, 53, udp=True) as datagrams:
        assert reach(same.path, HOST, 8080, server) == "10.1.0.1"
        assert ask_udp(same.path, HOST, 5353, datagrams) == "10.1.0.1"
        # Everybody else is translated still, and seen as who it is.
        assert reach(stranger.path, HOST, 8080, server) == address(stranger)
        assert reach(lab.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert unreachable(same.path, address(one), 80)
        await lab.supervisor.kill()
        assert reach(same.path, HOST, 8080, server) == "10.1.0.1"
        await lab.supervisor.start()
        assert reach(same.path, HOST, 8080, server) == "10.1.0.1"
        with without_rules(lab):
            # The socket that holds the port lets in what comes from the neighbours alone.
            assert unreachable(lab.neighbour, HOST, 8080)
            assert unreachable(lab.host, "127.0.0.1", 8080)
            assert reach(same.path, HOST, 8080, server) == "10.1.0.1"
        await lab.supervisor.bus.unary(Networks.policy, Policy(relay_loopback=False), timeout=10)
        assert unreachable(same.path, HOST, 8080)
        await lab.supervisor.bus.unary(Networks.policy, Policy(), timeout=10)
        assert reach(same.path, HOST, 8080, server) == "10.1.0.1"


@contextmanager
def without_rules(lab: Lab) -> Iterator[None]:
    """The firewall's table is gone, and nobody makes it anew meanwhile."""
    table = next(line.split()[-1] for line in lab.net.run(lab.net.host, "nft", "list", "tables").splitlines())
    os.kill(lab.supervisor.process.pid, signal.SIGSTOP)
    try:
        lab.net.run(lab.net.host, "nft", "delete", "table", "inet", table)
        yield
    finally:
        os.kill(lab.supervisor.process.pid, signal.SIGCONT)


async def test_it_is_allowed_nothing(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    one = await lab.on(network, ports=EVERYWHERE)
    with listening(one.path, 80) as server:
        assert reach(lab.neighbour, HOST6, 8080, server) == "10.1.0.1"
        status = Path(f"/proc/{relay(lab)}/status").read_text()
    for name in ("CapPrm", "CapEff", "CapInh"):
        assert f"{name}:\t{0:016x}" in status


async def test_others_do_not_reach_what_is_for_loopback(lab: Lab) -> None:
    network = await lab.network(1)
    one = await lab.on(network, ports=(("tcp", 8080, 80, "::1"), ("tcp", 8081, 80, "::")))
    with listening(one.path, 80, v6=True) as server:
        assert reach(lab.host, "::1", 8080, server) == "fd00:1::1"
        assert unreachable(lab.neighbour, HOST6, 8080)
        with without_rules(lab):  # The socket that holds the other port lets in what is for ::1 alone.
            assert unreachable(lab.neighbour, HOST6, 8081)
            assert reach(lab.host, "::1", 8081, server) == "fd00:1::1"


async def test_what_can_not_be_relayed_is_refused(lab: Lab) -> None:
    network = await lab.network(1, v6=False)
    with pytest.raises(BusError) as caught:
        await lab.on(network, ports=(("sctp", 8080, 80, "::"),))
    detail = caught.value.detail(NetworkFailure)
    assert detail is not None
    assert detail.kind == "unsupported"
