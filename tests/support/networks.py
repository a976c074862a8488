"""Networks and containers on the host of a topology, by way of a supervisor's bus."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from boxrun.container.spec import Spec
from boxrun.network.contract import (
    Endpoint,
    NetworkRef,
    Networks,
    NetworkSpec,
    PlugReply,
    PlugRequest,
    Port,
    Resolver,
    SandboxRef,
)
from boxrun.supervisor.contract import Runtime, SignalRequest

from support.runtime import SupervisorProcess
from support.topology import Topology, named, of


def identity() -> str:
    """A new id."""
    return uuid.uuid4().hex * 2


@dataclass
class Plugged:
    """A running container on networks."""

    spec: Spec
    pid: int
    reply: PlugReply
    request: PlugRequest

    @property
    def id(self) -> str:
        """Its id."""
        return self.spec.id

    @property
    def path(self) -> str:
        """Its network namespace."""
        return of(self.pid)


class Lab:
    """Networks and containers on a topology's host."""

    def __init__(self, net: Topology, supervisor: SupervisorProcess) -> None:
        self.net = net
        self.supervisor = supervisor
        self.host = named(net.host)
        self.neighbour = named(net.neighbour)
        self.far = named(net.far)
        self._hosts: dict[str, int] = {}

    async def network(self, number: int, *, v6: bool = True, **fields: object) -> NetworkSpec:
        """A bridge network, 10.``number``.0.0/16 and fd00:``number``::/64."""
        whole: dict[str, object] = {
            "id": identity(),
            "name": f"net{number}",
            "interface": f"bxt{number}",
            "subnets": (f"10.{number}.0.0/16", *((f"fd00:{number}::/64",) if v6 else ())),
            "addresses": (f"10.{number}.0.1/16", *((f"fd00:{number}::1/64",) if v6 else ())),
        }
        spec = NetworkSpec(**(whole | fields))  # type: ignore[arg-type]
        await self.supervisor.bus.unary(Networks.ensure, spec, timeout=30)
        return spec

    def endpoint(self, network: NetworkSpec, **fields: object) -> Endpoint:
        """An endpoint with the next address of a network."""
        number = self._hosts[network.id] = self._hosts.get(network.id, 1) + 1
        net = network.subnets[0].split(".")[1]
        v6 = len(network.subnets) > 1
        whole: dict[str, object] = {
            "id": identity(),
            "network": network.id,
            "addresses": (f"10.{net}.0.{number}/16", *((f"fd00:{net}::{number:x}/64",) if v6 else ())),
            "gateway_v4": f"10.{net}.0.1" if network.addresses else "",
            "gateway_v6": f"fd00:{net}::1" if v6 and network.addresses else "",
        }
        return Endpoint(**(whole | fields))  # type: ignore[arg-type]

    async def container(
        self, *endpoints: Endpoint, ports: tuple[Port, ...] = (), resolver: Resolver | None = None, **fields: object
    ) -> Plugged:
        """A container that sleeps."""
        spec = self.supervisor.spec("/bin/sleep", "1000", **fields)  # type: ignore[arg-type]
        request = PlugRequest(container=spec.id, endpoints=endpoints, ports=ports, resolver=resolver)
        reply = await self.supervisor.launch(spec, sandbox=request)
        assert reply.sandbox is not None
        return Plugged(spec, reply.pid, reply.sandbox, request)

    async def on(self, *networks: NetworkSpec, ports: tuple[tuple[str, int, int, str], ...] = (), **fields: object) -> Plugged:
        """A container with an endpoint on each of ``networks``; ports (protocol, host's, container's, address) lead to the first."""
        endpoints = tuple(self.endpoint(network) for network in networks)
        published = tuple(
            Port(protocol=protocol, container_port=inner, endpoint=endpoints[0].id, host_address=address, host_port=outer)  # type: ignore[arg-type]
            for protocol, outer, inner, address in ports
        )
        return await self.container(*endpoints, ports=published, **fields)  # type: ignore[arg-type]

    async def stop(self, container: Plugged) -> None:
        """End a container and wait for it."""
        await self.end(container.id)

    async def end(self, container: str) -> None:
        """End a container, given by its id, and wait for it."""
        await self.supervisor.bus.unary(Runtime.signal, SignalRequest(id=container, signal=9), timeout=10)
        await self.supervisor.exited(container)

    async def unplug(self, container: str) -> None:
        """Unplug."""
        await self.supervisor.bus.unary(Networks.unplug, SandboxRef(container=container), timeout=10)

    async def remove(self, network: NetworkSpec) -> None:
        """Remove a network."""
        await self.supervisor.bus.unary(Networks.remove, NetworkRef(id=network.id), timeout=10)

    def kernel_state(self, *, initial: bool = False) -> list[str]:
        """What there is in the host's namespace that networks make: interfaces, nftables' tables, listening sockets."""
        links = [line.split(":")[1].split("@")[0].strip() for line in self.net.ip(self.net.host, "-o", "link").splitlines()]
        tables = self.net.run(self.net.host, "nft", "list", "tables").splitlines()
        sockets = [] if initial else self.net.run(self.net.host, "ss", "-Hlntu").splitlines()
        return sorted([*links, *tables, *sockets])


def address(container: Plugged, index: int = 0, endpoint: int = 0) -> str:
    """A container's address, without its prefix."""
    return container.request.endpoints[endpoint].addresses[index].partition("/")[0]
