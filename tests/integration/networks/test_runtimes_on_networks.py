"""Containers of other OCI runtimes are on networks as ours are."""

from __future__ import annotations

import shutil

import pytest
from conftest import needs_root
from support.daemon import wait_until
from support.dns import ask
from support.site import Site
from support.topology import HOST, NEIGHBOUR, listening, none_reach, reach

# Of one process, so that they share one daemon.
pytestmark = [needs_root, pytest.mark.xdist_group("runtimes on a site")]


@pytest.mark.parametrize(
    "runtime",
    [
        pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}"))
        for name in ("runc", "crun")
    ],
)
def test_another_runtimes_container_on_a_network(site: Site, runtime: str) -> None:
    network = site.network()
    one = site.container(network, Runtime=runtime, aliases=["theirs"], ports=(("tcp", "", 8080, 80),))
    two = site.container(network)
    inside = site.daemon.cli("docker", "exec", one.name, "ip", "address", "show", "eth0").stdout.decode()
    assert f"inet {one.v4}/24" in inside
    assert f"inet6 {one.v6}/64" in inside
    hosts = site.daemon.cli("docker", "exec", one.name, "cat", "/etc/hosts").stdout.decode()
    assert f"{one.v4}\t{one.shown['Config']['Hostname']}\n" in hosts
    wait_until(lambda: ask(two.path, "theirs") == (0, [one.v4]), "its alias")
    assert ask(one.path, two.name) == (0, [two.v4])
    with listening(one.path, 80) as server:
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
        assert reach(two.path, one.v4, 80, server) == two.v4
        assert none_reach([(site.container(site.network()).path, one.v4, 80)]) == []
    further = site.network()
    site.ask("POST", f"/networks/{further}/connect", {"Container": one.name})
    assert "eth1" in site.daemon.cli("docker", "exec", one.name, "ip", "link").stdout.decode()
    site.ask("POST", f"/containers/{one.name}/restart?t=0")
    again = site.look(one.name, network)
    assert again.v4 == one.v4
    with listening(again.path, 80) as server:
        assert reach(site.neighbour, HOST, 8080, server) == NEIGHBOUR
