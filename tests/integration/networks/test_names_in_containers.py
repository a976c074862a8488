"""Names on a whole daemon's networks, as programs in containers ask for them."""

from __future__ import annotations

import socket
from collections import Counter
from ipaddress import ip_address

import pytest
from boxrun.network.dns import codec
from conftest import needs_root
from support.daemon import wait_until
from support.dns import SERVER, ask, question, upstream
from support.site import Placed, Site
from support.topology import FAR, HOST, inside

# Of one process, so that they share one daemon.
pytestmark = [needs_root, pytest.mark.xdist_group("names on a site")]
QUERIES = 1000
WINDOW = 25
"""How many questions are under way at a time."""


def codes(path: str, names: list[str]) -> Counter[int]:
    """Ask for all of these in a namespace, a window at a time: how often there was which code; -1 for no answer."""
    found: Counter[int] = Counter()
    with inside(path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(8)
        sock.connect(SERVER)
        for start in range(0, len(names), WINDOW):
            asked = names[start : start + WINDOW]
            for number, name in enumerate(asked):
                sock.send(question(name, identity=number))
            for _ in asked:
                try:
                    found[sock.recv(4096)[3] & 0xF] += 1
                except TimeoutError:
                    found[-1] += 1
    return found


def test_queries_by_the_thousand_never_fail(site: Site) -> None:
    network = site.network()
    one, two = site.container(network, aliases=["web"]), site.container(network, aliases=["web"])
    wait_until(lambda: ask(one.path, two.name) == (0, [two.v4]), "a name")
    names = [one.name, two.name, "web", f"{one.name}.{network}"] * (QUERIES // 4)
    for box in (one, two):
        assert codes(box.path, names) == {codec.NOERROR: QUERIES}


def test_other_names_by_the_thousand_never_fail(site: Site) -> None:
    names = {f"n{number}.example": "203.0.113.7" for number in range(QUERIES)}
    with upstream(site.far, FAR, names) as asked:
        one = site.container(site.network(), Dns=[FAR])
        assert codes(one.path, list(names)) == {codec.NOERROR: QUERIES}
        assert set(asked) == set(names)
        # All of them are known for as long as the answers said.
        assert ask(one.path, "n7.example") == (0, ["203.0.113.7"])
        assert asked.count("n7.example") == 1


def test_names_are_answered_while_the_daemon_is_down(site: Site) -> None:
    network = site.network()
    one, two = site.container(network, aliases=["web"], Dns=[FAR]), site.container(network)
    wait_until(lambda: ask(one.path, two.name) == (0, [two.v4]), "a name")
    with upstream(site.far, FAR, {"example.org": "203.0.113.7"}):
        site.daemon.kill()
        try:
            assert ask(one.path, two.name) == (0, [two.v4])
            assert ask(two.path, "web", tcp=True) == (0, [one.v4])
            assert ask(two.path, "web", codec.AAAA) == (0, [one.v6])
            assert ask(one.path, ip_address(two.v4).reverse_pointer, codec.PTR) == (0, [f"{two.name}.{network}"])
            assert ask(one.path, "example.org") == (0, ["203.0.113.7"])
        finally:
            site.daemon.start()
    three = site.container(network, aliases=["web"])
    wait_until(lambda: len(ask(two.path, "web")[1]) == 2, "the newcomer has the name as well")
    assert ask(three.path, one.name) == (0, [one.v4])


def test_of_several_with_one_name_each_has_its_turn_and_the_dead_have_none(site: Site) -> None:
    network = site.network()
    boxes = [site.container(network, aliases=["web"]) for _ in range(3)]
    asking = site.container(network)
    everybody = {box.v4 for box in boxes}
    wait_until(lambda: set(ask(asking.path, "web")[1]) == everybody, "all three")
    assert {ask(asking.path, "web")[1][0] for _ in range(3)} == everybody
    site.ask("POST", f"/containers/{boxes[0].name}/kill")
    wait_until(lambda: set(ask(asking.path, "web")[1]) == everybody - {boxes[0].v4}, "the two that live")
    site.ask("POST", f"/networks/{network}/disconnect", {"Container": boxes[1].name})
    wait_until(lambda: ask(asking.path, "web")[1] == [boxes[2].v4], "the last one")


def test_a_name_is_what_a_network_calls_it(site: Site) -> None:
    """On two networks one name may be two containers', and a third network knows neither."""
    first, second = site.network(), site.network()
    one, two = site.container(first, aliases=["db"]), site.container(second, aliases=["db"])
    stranger = site.container(site.network())
    both = site.container(first, second)
    wait_until(lambda: set(ask(both.path, "db")[1]) & {one.v4, two.v4}, "a name")
    assert ask(one.path, "db") == (0, [one.v4])
    assert ask(two.path, "db") == (0, [two.v4])
    assert ask(stranger.path, "db")[1] == []
    assert ask(stranger.path, one.name)[1] == []
    assert ask(both.path, f"db.{second}") == (0, [two.v4])


def test_a_silent_server_delays_nobody(site: Site) -> None:
    with upstream(site.host, HOST, {}, silent=True) as silent, upstream(site.far, FAR, {"example.org": "203.0.113.7"}) as asked:
        one = site.container(site.network(), Dns=[HOST, FAR])
        assert ask(one.path, "example.org") == (0, ["203.0.113.7"])
        assert ask(one.path, "example.org") == (0, ["203.0.113.7"])
        assert ask(one.path, "missing.example")[0] == codec.NXDOMAIN
        assert asked.count("example.org") == 1
        assert "example.org" in silent
        inner = site.container(site.network(internal=True), Dns=[FAR])
        assert ask(inner.path, "example.org")[0] in (codec.SERVFAIL, codec.NXDOMAIN)
        assert asked.count("example.org") == 1


def test_a_container_that_is_a_name_server_itself(site: Site) -> None:
    network = site.network()
    one, two = site.container(network), site.container(network)
    with upstream(one.path, "0.0.0.0", {"own.example": "203.0.113.9"}):
        assert ask(one.path, two.name) == (0, [two.v4])
        assert _ask_at(two, one.v4, "own.example") == b"\xcb\x00\x71\x09"
        assert ask(two.path, one.name) == (0, [one.v4])


def _ask_at(box: Placed, server: str, name: str) -> bytes:
    """The address that a container has for a name from a server of its choice, as bytes."""
    with inside(box.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(8)
        sock.connect((server, 53))
        sock.send(question(name))
        return sock.recv(512)[-4:]


@pytest.mark.parametrize("embedded", [True, False], ids=["own", "default"])
def test_the_servers_a_container_was_given(site: Site, embedded: bool) -> None:
    network = site.network() if embedded else "bridge"
    one = site.container(network, Dns=[FAR], DnsSearch=["a.example"], DnsOptions=["timeout:1"])
    text = site.daemon.cli("docker", "exec", one.name, "cat", "/etc/resolv.conf").stdout.decode()
    assert f"nameserver {'127.0.0.11' if embedded else FAR}\n" in text
    assert "search a.example\n" in text
    assert "timeout:1" in text
    assert ("ndots:0" in text) == embedded


def test_a_container_of_the_default_bridge_asks_by_name_once_it_is_on_another_network(site: Site) -> None:
    network, inner = site.network(), site.network(internal=True)
    one, two = site.container(Dns=[FAR]), site.container(network, aliases=["web"])

    def resolv_conf() -> str:
        return site.daemon.cli("docker", "exec", one.name, "cat", "/etc/resolv.conf").stdout.decode()

    with upstream(site.far, FAR, {"example.org": "203.0.113.7"}) as asked:
        assert f"nameserver {FAR}\n" in resolv_conf()
        site.ask(
            "POST", f"/networks/{network}/connect", {"Container": one.name, "EndpointConfig": {"Links": [f"{two.name}:db"]}}
        )
        assert "nameserver 127.0.0.11\n" in resolv_conf()
        assert ask(one.path, "web") == (0, [two.v4])
        assert ask(one.path, "db") == (0, [two.v4])
        assert ask(one.path, "example.org") == (0, ["203.0.113.7"])
        # With nothing but an internal network left, other names lead out no more, nor do links lead anywhere.
        site.ask("POST", f"/networks/{inner}/connect", {"Container": one.name})
        site.ask("POST", f"/networks/{network}/disconnect", {"Container": one.name})
        site.ask("POST", "/networks/bridge/disconnect", {"Container": one.name})
        for name in ("web", "db", "elsewhere.example"):
            assert ask(one.path, name)[1] == []
        assert "elsewhere.example" not in asked
    site.daemon.kill()
    site.daemon.start()
    three = site.container(inner)
    wait_until(lambda: ask(one.path, three.name) == (0, [three.v4]), "a name")
