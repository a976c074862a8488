"""A whole daemon on the host of a topology: its networks and containers by way of the API, and who tries to reach them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from support.daemon import Daemon, wait_until
from support.leaks import leaks, network_leaks
from support.topology import HOST, HOST6, Topology, named, of, topology

Wanted = tuple[str, str, int, int]
"""A published port: protocol, the host's address, the host's port, the container's."""

API, API6 = 2375, 2376
"""The TCP ports at which a site's daemon listens where it is told to, on all IPv4 and on all IPv6 addresses."""

BRIDGE = "com.docker.network.bridge."


@dataclass(frozen=True)
class Placed:
    """A running container: its network namespace, its addresses and gateways on the first of its networks, and what inspect shows."""

    name: str
    path: str
    v4: str
    v6: str
    gateway: str
    gateway6: str
    shown: dict


class Site:
    """A daemon's host and its neighbours. ``clear`` between tests."""

    def __init__(self, net: Topology, daemon: Daemon) -> None:
        self.net = net
        self.daemon = daemon
        self.host, self.neighbour, self.far = named(net.host), named(net.neighbour), named(net.far)
        self._networks: list[str] = []
        self._containers: list[str] = []
        self._routes: list[tuple[str, ...]] = []
        self._numbers = iter(range(16, 250))

    def network(self, *, v6: bool = True, internal: bool = False, **options: str) -> str:
        """Make a bridge network; options are those of the bridge driver, by their last words."""
        number = next(self._numbers)
        name = f"net{number}"
        configs = [{"Subnet": self.daemon.subnets.replace(".0.0/16", f".{number}.0/24")}]
        if v6:
            configs.append({"Subnet": f"fd42:b0c5:{self.daemon.slot.number:x}:{number:x}::/64"})
        body = {
            "Name": name,
            "EnableIPv6": v6,
            "Internal": internal,
            "Options": {f"{BRIDGE}{option}": value for option, value in options.items()},
            "IPAM": {"Config": configs},
        }
        self.ask("POST", "/networks/create", body)
        self._networks.append(name)
        return name

    def container(
        self,
        network: str = "bridge",
        *further: str,
        ports: Iterable[Wanted] = (),
        aliases: Iterable[str] = (),
        **host: object,
    ) -> Placed:
        """Start a container that sleeps on networks; ``host`` is further host configuration."""
        name = f"c{len(self._containers)}"
        bindings: dict[str, list[dict[str, str]]] = {}
        for protocol, address, outer, inner in ports:
            bindings.setdefault(f"{inner}/{protocol}", []).append({"HostIp": address, "HostPort": str(outer or "")})
        body = {
            "Image": "busybox",
            "Cmd": ["sleep", "1000"],
            "ExposedPorts": {port: {} for port in bindings},
            "HostConfig": {"NetworkMode": network, "PortBindings": bindings, **host},
            "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": list(aliases)}, **{each: {} for each in further}}},
        }
        self.ask("POST", f"/containers/create?name={name}", body)
        self._containers.append(name)
        self.ask("POST", f"/containers/{name}/start")
        return self.look(name, network)

    def look(self, name: str, network: str) -> Placed:
        """A running container as it is now."""
        shown = self.daemon.inspect(name)
        end = shown["NetworkSettings"]["Networks"][network]
        addresses = (end["IPAddress"], end["GlobalIPv6Address"], end["Gateway"], end["IPv6Gateway"])
        return Placed(name, of(shown["State"]["Pid"]), *addresses, shown)

    def ask(self, method: str, path: str, body: object = None) -> object:
        """An API call that must succeed."""
        status, answer = self.daemon.request(method, path, body)
        assert status < 300, (method, path, answer)
        return answer

    def lead(self, node: str, *containers: Placed) -> None:
        """Have a node of the topology send what is for containers' subnets to the host."""
        for container in containers:
            for family, address, via in (("-4", container.v4, HOST), ("-6", container.v6, HOST6)):
                if address:
                    route = (node, family, "route", "replace", f"{address}/{32 if family == '-4' else 128}", "via", via)
                    self.net.ip(*route)
                    self._routes.append((*route[:3], "delete", *route[4:]))

    def clear(self) -> None:
        """Remove everything that was made."""
        for name in self._containers:
            self.ask("DELETE", f"/containers/{name}?force=1")
        for name in self._networks:
            self.ask("DELETE", f"/networks/{name}")
        for route in dict.fromkeys(self._routes):
            self.net.ip(*route)
        self._containers, self._networks, self._routes = [], [], []


@contextmanager
def site(archive: bytes, *flags: str) -> Iterator[Site]:
    """A topology with a daemon on its host, which must leave nothing.

    Args:
        archive: an image archive to load.
        flags: of the daemon.
    """
    with topology() as net, served(net, archive, *flags) as made:
        yield made


@contextmanager
def served(net: Topology, archive: bytes, *flags: str, alone: bool = True) -> Iterator[Site]:
    """The same on a topology that is there; not ``alone``: another daemon on the host has networks too."""
    daemon = Daemon(*flags, bridge=True, netns=net.host)
    try:
        daemon.start()
        daemon.cli("docker", "load", stdin=archive)
        yield Site(net, daemon)
    finally:
        daemon.shutdown()
        daemon.slot.close()

    def left() -> list[str]:
        found = network_leaks(net.host)
        return found if alone else [leak for leak in found if daemon.table in leak or daemon.bridge in leak]

    wait_until(lambda: not leaks(daemon.name), f"nothing is left of {daemon.name}: {leaks(daemon.name)}", 10)
    wait_until(lambda: not left(), f"nothing is left on {net.host}: {left()}", 10)
