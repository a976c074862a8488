"""Who reaches whom, with a whole daemon: its host, a neighbour on the link, somebody behind a router, and containers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from boxrun.network.links import read_sysctl
from conftest import needs_root
from support import sctp
from support.daemon import wait_until
from support.site import API, API6, Placed, Site
from support.topology import (
    FAR,
    FAR6,
    HOST,
    HOST6,
    HOST_ALIAS,
    NEIGHBOUR,
    NEIGHBOUR6,
    ask_udp,
    inside,
    listening,
    none_reach,
    reach,
    unheard,
)

# Of one process, so that they share one daemon.
pytestmark = [needs_root, pytest.mark.xdist_group("reachability of a site")]
BOTH = (("tcp", "", 8080, 80), ("udp", "", 8080, 80))


def everywhere(container: Placed, port: int = 80) -> list[tuple[str, int]]:
    """A container's own addresses with a port."""
    return [(address, port) for address in (container.v4, container.v6) if address]


class Servers:
    """A container's servers at a port: TCP and UDP, IPv4 and IPv6."""

    def __init__(self, stack: ExitStack, container: Placed, port: int = 80) -> None:
        self.tcp = stack.enter_context(listening(container.path, port))
        self.udp = stack.enter_context(listening(container.path, port, udp=True))
        if container.v6:
            self.tcp6 = stack.enter_context(listening(container.path, port, v6=True, address=container.v6))
            self.udp6 = stack.enter_context(listening(container.path, port, v6=True, udp=True, address=container.v6))


def test_published_ports_are_reached_from_everywhere_and_see_who_asks(site: Site) -> None:
    one = site.container(site.network(), ports=BOTH)
    same, other = site.container(one.shown["HostConfig"]["NetworkMode"]), site.container(site.network())
    with ExitStack() as stack:
        servers = Servers(stack, one)
        for path, asked, seen in (
            (site.neighbour, HOST, NEIGHBOUR),
            (site.neighbour, HOST_ALIAS, NEIGHBOUR),
            (site.far, HOST, FAR),
            (site.host, HOST, HOST),
            (site.host, "127.0.0.1", one.gateway),
            (site.host, one.gateway, one.gateway),
            (other.path, HOST, other.v4),
            (other.path, other.gateway, other.v4),
            (same.path, HOST, one.gateway),
            (one.path, HOST, one.gateway),
        ):
            assert reach(path, asked, 8080, servers.tcp) == seen, (path, asked)
            assert ask_udp(path, asked, 8080, servers.udp) == seen, (path, asked)
        for path, asked, seen in (
            (site.neighbour, HOST6, NEIGHBOUR6),
            (site.far, HOST6, FAR6),
            (site.host, HOST6, HOST6),
            (other.path, HOST6, other.v6),
            (other.path, other.gateway6, other.v6),
        ):
            assert reach(path, asked, 8080, servers.tcp6) == seen, (path, asked)
            assert ask_udp(path, asked, 8080, servers.udp6) == seen, (path, asked)


def test_what_is_not_published_is_the_networks_own(site: Site) -> None:
    network = site.network()
    one, same = site.container(network, ports=(("tcp", "", 8081, 81),)), site.container(network)
    other = site.container(site.network())
    for node in (site.net.neighbour, site.net.router):
        site.lead(node, one)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        assert reach(same.path, one.v4, 80, servers.tcp) == same.v4
        assert ask_udp(same.path, one.v6, 80, servers.udp6) == same.v6
        strangers = (site.neighbour, site.far, other.path)
        # Not even the published one by the container's own address.
        stack.enter_context(listening(one.path, 81))
        attempts = [(path, *place) for path in strangers for place in (*everywhere(one), *everywhere(one, 81))]
        assert none_reach(attempts) == []
        assert unheard(servers.udp, [(path, one.v4, 80) for path in strangers])
        assert unheard(servers.udp6, [(path, one.v6, 80) for path in strangers])
        assert none_reach([(path, HOST, 80) for path in strangers]) == []


def test_what_is_published_on_localhost_is_the_hosts_alone(site: Site) -> None:
    network = site.network()
    one = site.container(network, ports=(("tcp", "127.0.0.1", 8080, 80), ("udp", "127.0.0.1", 8080, 80)))
    hostile = site.container(site.network())
    site.lead(site.net.neighbour, one)
    site.net.mistake_loopback(hostile.path, hostile.gateway, hostile.v4)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        assert reach(site.host, "127.0.0.1", 8080, servers.tcp) == one.gateway
        assert ask_udp(site.host, "127.0.0.1", 8080, servers.udp) == one.gateway
        site.net.mistake_loopback(site.neighbour, HOST, NEIGHBOUR)
        stack.callback(_forgive_loopback, site)
        strangers = (site.neighbour, hostile.path)
        places = [("127.0.0.1", 8080), (HOST, 8080), (HOST_ALIAS, 8080), (hostile.gateway, 8080), (one.v4, 80)]
        attempts = [(path, *place) for path in strangers for place in places]
        assert none_reach([*attempts, (site.far, HOST, 8080), (site.host, HOST, 8080)]) == []
        assert unheard(servers.udp, attempts)


def _forgive_loopback(site: Site) -> None:
    site.net.ip(site.net.neighbour, "route", "delete", "127.0.0.1/32")
    site.net.ip(site.net.neighbour, "address", "add", "127.0.0.1/8", "dev", "lo")


def test_an_internal_network_has_neither_way_in_nor_out(site: Site) -> None:
    network = site.network(internal=True)
    one, same = site.container(network, ports=BOTH), site.container(network)
    other = site.container(site.network())
    site.lead(site.net.neighbour, one)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        assert reach(same.path, one.v4, 80, servers.tcp) == same.v4
        assert reach(same.path, one.v6, 80, servers.tcp6) == same.v6
        assert reach(site.host, one.v4, 80, servers.tcp)
        stack.enter_context(listening(site.far, 90))
        stack.enter_context(listening(site.far, 90, v6=True, address=FAR6))
        inner = f"nsenter --net={one.path} ip route add default via".split()
        site.net.run(
            site.net.host, *inner, one.shown["NetworkSettings"]["Networks"][network]["IPAddress"].rpartition(".")[0] + ".1"
        )
        outside = [(path, *place) for path in (site.neighbour, other.path) for place in everywhere(one)]
        assert none_reach([*outside, (one.path, FAR, 90), (one.path, FAR6, 90), (site.neighbour, HOST, 8080)]) == []
        assert unheard(servers.udp, [(site.neighbour, one.v4, 80), (other.path, one.v4, 80)])


def test_without_icc_containers_reach_only_what_is_published(site: Site) -> None:
    network = site.network(enable_icc="false")
    one, same = site.container(network, ports=BOTH), site.container(network)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        assert none_reach([(same.path, *place) for place in everywhere(one)]) == []
        assert unheard(servers.udp, [(same.path, one.v4, 80)])
        assert unheard(servers.udp6, [(same.path, one.v6, 80)])
        assert reach(site.neighbour, HOST, 8080, servers.tcp) == NEIGHBOUR
        # Bridges show packets to the firewall here: what it translates would go from port to port, which are kept apart.
        assert inside(site.host, lambda: read_sysctl("bridge/bridge-nf-call-iptables")) == "1"
        for asking in (same, one):
            for host in (HOST, one.gateway):
                assert reach(asking.path, host, 8080, servers.tcp) == one.gateway
                assert ask_udp(asking.path, host, 8080, servers.udp) == one.gateway
            assert reach(asking.path, HOST6, 8080, servers.tcp6) == one.gateway6
            assert ask_udp(asking.path, HOST6, 8080, servers.udp6) == one.gateway6
        assert reach(site.host, HOST, 8080, servers.tcp) == HOST
        assert none_reach([(same.path, *place) for place in everywhere(one)]) == []


@pytest.mark.parametrize("mode", ["nat", "nat-unprotected", "routed"])
def test_gateway_modes(site: Site, mode: str) -> None:
    network = site.network(gateway_mode_ipv4=mode, gateway_mode_ipv6=mode)
    one = site.container(network, ports=BOTH)
    for node in (site.net.neighbour, site.net.router):
        site.lead(node, one)
    with ExitStack() as stack:
        servers, closed = Servers(stack, one), stack.enter_context(listening(one.path, 81))
        outside = stack.enter_context(listening(site.far, 90))
        assert reach(one.path, FAR, 90, outside) == (one.v4 if mode == "routed" else HOST)
        by_host, by_address = [(site.far, HOST, 8080)], [(site.far, *place) for place in everywhere(one)]
        if mode == "routed":
            assert none_reach([*by_host, (site.far, one.v4, 81)]) == []
            assert ask_udp(site.far, one.v4, 80, servers.udp) == FAR
        else:
            assert reach(*by_host[0], servers.tcp) == FAR
        if mode == "nat":
            assert none_reach([*by_address, (site.far, one.v4, 81)]) == []
            return
        assert reach(site.far, one.v4, 80, servers.tcp) == FAR
        assert reach(site.far, one.v6, 80, servers.tcp6) == FAR6
        if mode == "nat-unprotected":
            assert reach(site.far, one.v4, 81, closed) == FAR


def test_sctp_on_a_routed_network(site: Site) -> None:
    """Packets alone, so whether this kernel has sockets for it doesn't matter."""
    network = site.network(gateway_mode_ipv4="routed", gateway_mode_ipv6="routed")
    one = site.container(network, ports=(("sctp", "", 0, 80), ("tcp", "", 0, 81)))
    for node in (site.net.neighbour, site.net.router):
        site.lead(node, one)
    for address in (one.v4, one.v6):
        assert sctp.arrives(site.far, address, 80, one.path, expected=True), address
        assert not sctp.arrives(site.far, address, 81, one.path, expected=False), address


@pytest.mark.skipif(not sctp.available(), reason="this kernel has no SCTP (CONFIG_IP_SCTP)")
def test_sctp_through_a_published_port(site: Site) -> None:
    one = site.container(site.network(), ports=(("sctp", "", 8080, 80),))
    with listening(one.path, 80, protocol=sctp.PROTOCOL) as server:
        assert reach(site.neighbour, HOST, 8080, server, protocol=sctp.PROTOCOL) == NEIGHBOUR
        assert reach(site.host, "127.0.0.1", 8080, server, protocol=sctp.PROTOCOL) == one.gateway


@pytest.mark.skipif(sctp.available(), reason="this kernel has SCTP")
def test_sctp_is_refused_by_name_where_the_kernel_has_none(site: Site) -> None:
    body = {"Image": "busybox", "HostConfig": {"NetworkMode": site.network(), "PortBindings": {"80/sctp": [{}]}}}
    site.ask("POST", "/containers/create?name=refused", body)
    status, answer = site.daemon.request("POST", "/containers/refused/start")
    assert (status, "this kernel has no sockets for sctp" in answer["message"]) == (500, True), answer
    site.ask("DELETE", "/containers/refused")


def test_an_isolated_network_is_without_the_host_too(site: Site) -> None:
    """Even for a container that looks for a way to the host: one that may change its routes and knows the bridge's address."""
    network = site.network(internal=True, gateway_mode_ipv4="isolated", gateway_mode_ipv6="isolated")
    one, same = site.container(network), site.container(network)
    bridge = _bridge(site, network)
    assert "inet" not in site.net.ip(site.net.host, "address", "show", bridge)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        assert reach(same.path, one.v4, 80, servers.tcp) == same.v4
        assert reach(same.path, one.v6, 80, servers.tcp6) == same.v6
        assert none_reach([(site.host, *place) for place in everywhere(one)]) == []
        assert unheard(servers.udp, [(site.host, one.v4, 80)])
        assert unheard(servers.udp6, [(site.host, one.v6, 80)])
        # The host listens at all of its addresses, and there is one for each way by which a container might find it.
        stack.enter_context(listening(site.host, 90))
        stack.enter_context(listening(site.host, 91, v6=True))
        heard = stack.enter_context(listening(site.host, 90, udp=True))
        heard6 = stack.enter_context(listening(site.host, 91, v6=True, udp=True))
        mac = site.net.ip(site.net.host, "-o", "link", "show", bridge).partition("link/ether ")[2].split()[0]
        hosts = {4: (HOST, HOST_ALIAS, one.v4.rpartition(".")[0] + ".1"), 6: (HOST6, one.v6.rpartition(":")[0] + ":1")}
        _look_for_the_host(site, one, mac, [*hosts[4], *hosts[6]])
        assert none_reach([(one.path, host, port) for host in (*hosts[4], *hosts[6]) for port in (90, 91)]) == []
        assert unheard(heard, [(one.path, host, 90) for host in hosts[4]])
        assert unheard(heard6, [(one.path, host, 91) for host in hosts[6]])


def _look_for_the_host(site: Site, container: Placed, mac: str, hosts: list[str]) -> None:
    """Have a container send what is for these addresses to the bridge itself."""
    for host in hosts:
        site.net.run(
            site.net.host,
            "nsenter",
            f"--net={container.path}",
            "ip",
            "route",
            "replace",
            host,
            "dev",
            "eth0",
            "src",
            container.v6 if ":" in host else container.v4,
        )
        site.net.run(
            site.net.host,
            "nsenter",
            f"--net={container.path}",
            "ip",
            "neighbour",
            "replace",
            host,
            "lladdr",
            mac,
            "dev",
            "eth0",
        )


def _bridge(site: Site, network: str) -> str:
    """The interface of a network."""
    return f"br-{site.daemon.get(f'/networks/{network}')['Id'][:12]}"


def test_the_address_that_ports_are_published_at_by_default(site: Site) -> None:
    one = site.container(site.network(v6=False, host_binding_ipv4=HOST_ALIAS), ports=(("tcp", "", 8080, 80),))
    assert one.shown["NetworkSettings"]["Ports"] == {"80/tcp": [{"HostIp": HOST_ALIAS, "HostPort": "8080"}]}
    with listening(one.path, 80) as server:
        assert reach(site.neighbour, HOST_ALIAS, 8080, server) == NEIGHBOUR
        assert none_reach([(site.neighbour, HOST, 8080), (site.host, "127.0.0.1", 8080)]) == []


def test_interfaces_that_are_trusted(site: Site) -> None:
    one = site.container(site.network(trusted_host_interfaces="eth0"))
    two = site.container(site.network(trusted_host_interfaces="elsewhere"))
    site.lead(site.net.neighbour, one, two)
    with ExitStack() as stack:
        servers = Servers(stack, one)
        Servers(stack, two)
        assert reach(site.neighbour, one.v4, 80, servers.tcp) == NEIGHBOUR
        assert reach(site.neighbour, one.v6, 80, servers.tcp6) == NEIGHBOUR6
        assert none_reach([(site.neighbour, *place) for place in everywhere(two)]) == []


def test_the_engine_is_reached_by_no_container(site: Site) -> None:
    """At none of the host's addresses, those of other networks and of later ones included."""
    one, default = site.container(site.network()), site.container()
    other = site.container(site.network())
    with ExitStack() as stack:
        program = stack.enter_context(listening(site.host, 2380))
        assert reach(one.path, HOST, 2380, program) == one.v4
        v4 = [HOST, HOST_ALIAS, one.gateway, other.gateway, default.gateway]
        v6 = [HOST6, one.gateway6, other.gateway6]
        assert all(v4)
        assert all(v6)
        attempts = [(box.path, address, API) for box in (one, default, other) for address in v4]
        attempts += [(box.path, address, API6) for box in (one, other) for address in v6]
        assert none_reach(attempts) == []
        for path, address, port in ((site.neighbour, HOST, API), (site.host, "127.0.0.1", API), (site.host, "::1", API6)):
            assert none_reach([(path, address, port)]), (path, address)


def test_a_container_on_two_networks_is_reached_on_both(site: Site) -> None:
    first, second = site.network(), site.network()
    both, one, two = site.container(first, second, ports=BOTH), site.container(first), site.container(second)
    inner = both.shown["NetworkSettings"]["Networks"][second]["IPAddress"]
    with ExitStack() as stack:
        servers = Servers(stack, both)
        assert reach(one.path, both.v4, 80, servers.tcp) == one.v4
        assert reach(two.path, inner, 80, servers.tcp) == two.v4
        # By the host's address as well, though the answer would have a shorter way.
        for asking in (one, two):
            assert reach(asking.path, HOST, 8080, servers.tcp)
            assert reach(asking.path, HOST6, 8080, servers.tcp6)
        assert none_reach([(one.path, two.v4, 80), (two.path, both.v4, 80)]) == []


def test_disconnected_is_unreachable_and_reconnected_is_reached(site: Site) -> None:
    network = site.network()
    one, same = site.container(network, ports=BOTH), site.container(network)
    with listening(one.path, 80) as server:
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
        site.ask("POST", f"/networks/{network}/disconnect", {"Container": one.name})
        assert none_reach([(site.neighbour, HOST, 8080), (same.path, one.v4, 80)]) == []
        site.ask("POST", f"/networks/{network}/connect", {"Container": one.name})
        now = site.look(one.name, network)
        assert reach(same.path, now.v4, 80, server) == same.v4
        wait_until(lambda: none_reach([(site.neighbour, HOST, 8080)]) != [], "the published port leads to it again")
