"""What is plugged in where: networks, sandboxes and ports put together, one act at a time, each done wholly or not at all.

Everything here runs in one thread and waits for nothing but the kernel.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address

import msgspec

from boxrun.network import conntrack, links, ways
from boxrun.network.boxes import Box, routed
from boxrun.network.contract import Endpoint, NetworkSpec, PlugRequest, Policy, Port, Resolver
from boxrun.network.errors import NetworkError
from boxrun.network.firewall import Firewall
from boxrun.network.holders import hold
from boxrun.network.relay.wanted import Sockets, bridged_versions, name_of, settle
from boxrun.network.sandboxes import Plumber
from boxrun.network.state import Forwarding, NetworkState

log = logging.getLogger(__name__)


class Switchboard:
    """The networks of one run directory, in the namespace of the thread that makes this."""

    def __init__(self, state: NetworkState, table: str) -> None:
        """Raises OSError: the kernel has no nf_tables."""
        self._state = state
        self._plumber = Plumber()
        self.firewall = Firewall(table)
        self.networks: dict[str, NetworkSpec] = {}
        self.boxes: dict[str, Box] = {}
        self.bridged: frozenset[int] = frozenset()
        """The IP versions of which is relayed what bridges that show packets to the firewall make impossible otherwise."""
        self._policy = Policy()

    def close(self) -> None:
        """Let go of everything; what is plugged goes on."""
        for box in self.boxes.values():
            box.close()
        self.firewall.close()
        self._plumber.close()

    def recover(self, running: Mapping[str, int], held: Sockets) -> None:
        """Find what an earlier supervisor has plugged, and remove what it hasn't finished.

        Args:
            running: containers with their processes.
            held: sockets behind published ports that the relay has kept; what isn't needed of them is closed.
        """
        self._policy = self._state.policy
        self._look_at_bridges()
        self.networks = {network.id: network for network in self._state.networks()}
        for sandbox in self._state.sandboxes():
            try:
                box = self._plumber.find(sandbox, self.networks, running[sandbox.container])
            except (KeyError, OSError, NetworkError):
                self._state.drop_sandbox(sandbox.container)
                continue
            self.boxes[sandbox.container] = box
            self._hold_again(box, held)
            settle(box, bridged=self.bridged)
            box.installed = box.elements()
        for sock in held.values():
            sock.close()
        for network in self.networks.values():
            try:
                links.ensure(network)
            except (NetworkError, OSError) as error:
                log.error("network %s: %s", network.name or network.id, error)
        self.firewall.policy(self._policy, self._forward_drop)
        elements = [element for box in self.boxes.values() for element in box.installed]
        self.firewall.restore(self.networks.values(), elements)

    def _hold_again(self, box: Box, held: Sockets) -> None:
        for port in box.ports:
            if self._routed(box, port):
                continue
            kept = held.pop(name_of(port), None)
            if kept is not None:
                box.holders[port] = kept
                continue
            try:
                _, box.holders[port] = hold(port)
            except NetworkError as error:
                # A program took it while no supervisor was there. Packets still go to the container.
                log.error("container %s: %s", box.container, error)

    @property
    def _forward_drop(self) -> tuple[str, ...]:
        """The interfaces between which nothing is forwarded: those for whose sake nothing was, before us."""
        return self._state.forwarding.interfaces if self._policy.forward_drop else ()

    def clear(self) -> None:
        """Leave nothing. Raises NetworkError, OSError."""
        for network in list(self.networks):
            self.remove(network)
        self.firewall.remove()
        links.stop_forwarding(self._state.forwarding)

    def set_policy(self, policy: Policy) -> None:
        """Have this policy. Raises NetworkError, OSError."""
        self._state.put_policy(policy)
        self._policy = policy
        self._look_at_bridges()
        self.firewall.policy(policy, self._forward_drop)

    def ensure(self, network: NetworkSpec) -> None:
        """Have a network. Raises NetworkError, OSError."""
        links.check(network)
        known = self.networks.get(network.id)
        if known is not None and (known.driver, known.interface) != (network.driver, network.interface):
            raise NetworkError(f"network {network.name}: driver and interface can't change", "interface")
        self._state.put_network(network)
        try:
            links.ensure(network)
            if network.driver == "bridge":
                self._forward_for(network)
                self.firewall.put_network(network)
        except BaseException:
            if known is None:
                self._undo_network(network)
            raise
        self.networks[network.id] = network
        for box in self.boxes.values():
            for cable in box.cables.values():
                if cable.endpoint.network == network.id:
                    cable.network = network

    def _forward_for(self, network: NetworkSpec) -> None:
        there = links.interfaces(network.interface)
        if changed := links.forwarding(network):
            known = self._state.forwarding
            settings = (*known.settings, *(name for name in changed if name not in known.settings))
            self._state.note_forwarding(Forwarding(settings=settings, interfaces=known.interfaces or tuple(there)))
            self.firewall.policy(self._policy, self._forward_drop)

    def _undo_network(self, network: NetworkSpec) -> None:
        try:
            self.firewall.drop_network(network.id)
            links.remove(network)
        except (NetworkError, OSError) as error:
            log.error("network %s: %s", network.name or network.id, error)
        self._state.drop_network(network.id)

    def remove(self, identity: str) -> None:
        """Remove a network; an unknown one is fine. Raises NetworkError, OSError."""
        network = self.networks.get(identity)
        if network is None:
            return
        for box in list(self.boxes.values()):
            for endpoint in [key for key, cable in box.cables.items() if cable.endpoint.network == identity]:
                self.disconnect(box.container, endpoint)
        if network.driver == "bridge":
            self.firewall.drop_network(identity)
        links.remove(network)
        self._state.drop_network(identity)
        del self.networks[identity]

    def plug(self, request: PlugRequest, box: Box | None, namespace: int = -1) -> Box:
        """Have a sandbox for a container.

        Args:
            request: what is to be in it.
            box: one that is ready for the first endpoint of a bridge network; None where there is none.
            namespace: what is to become the sandbox, where there is no box and that is there already; it stays the caller's.

        Raises:
            NetworkError: and nothing is left, ``box`` neither.
            OSError: likewise.
        """
        try:
            self.unplug(request.container)
            networks = [self._network(endpoint) for endpoint in request.endpoints]
            servers = request.resolver is not None and request.resolver.embedded
            if box is None and namespace >= 0:
                box = self._plumber.adopt(namespace, servers=servers)
            elif box is None:
                first = next((network for network in networks if network.driver == "bridge"), None)
                box = self._plumber.make(first, servers=servers)
            elif servers and box.servers is None:
                self._plumber.serve(box)
            box.container, box.resolver = request.container, request.resolver
            alone = len(request.endpoints) == 1
            for endpoint, network in _ready_first(box, zip(request.endpoints, networks, strict=True)):
                self._plumber.connect(box, endpoint, network, alone=alone)
            order = [endpoint.id for endpoint in request.endpoints]
            box.cables = {key: box.cables[key] for key in order}
            if not alone:
                self._plumber.route_by_default(box)
            box.ways = request.ways
            ways.lay(box, self.boxes.values(), self._plumber)
            self._have_ports(box, request.ports)
            self._state.put_sandbox(box.record)
        except BaseException:
            if box is not None:
                self._discard(box)
            raise
        self.boxes[request.container] = box
        return box

    def _close_ways(self, gone: Box) -> None:
        for box in self.boxes.values():
            kept = ways.left(box, gone)
            if kept != box.ways:
                box.ways = kept
                self._install(box)
                self._state.put_sandbox(box.record)

    def _network(self, endpoint: Endpoint) -> NetworkSpec:
        try:
            return self.networks[endpoint.network]
        except KeyError:
            raise LookupError(f"no network {endpoint.network}") from None

    def serve(self, box: Box) -> None:
        """Have a name server's sockets in a sandbox. Raises NetworkError, OSError."""
        self._plumber.serve(box)

    def make(self, network: NetworkSpec, *, servers: bool) -> Box:
        """A sandbox to be taken later. Raises NetworkError, OSError."""
        return self._plumber.make(network, servers=servers)

    def connect(
        self, container: str, endpoint: Endpoint, ports: Sequence[Port], resolver: Resolver | None
    ) -> tuple[Box, tuple[Port, ...]]:
        """Plug a further endpoint in; returns the ports as they came to be. ``resolver`` takes the place of the one before.

        Raises:
            NetworkError: and nothing of it is left.
                LookupError: no such sandbox or network.
            FileExistsError: the endpoint is plugged in already.
        """
        box, network = self._box(container), self._network(endpoint)
        if endpoint.id in box.cables:
            raise FileExistsError(f"container {container} has an endpoint {endpoint.id} already")
        self._plumber.connect(box, endpoint, network)
        had, resolved = box.ports, box.resolver
        try:
            self._plumber.route_by_default(box)
            self._have_ports(box, (*had, *ports))
            self._have_resolver(box, resolver)
            self._state.put_sandbox(box.record)
        except BaseException:
            box.resolver = resolved
            box.close_servers()
            self.disconnect(container, endpoint.id)
            raise
        return box, box.ports[len(had) :]

    def _have_resolver(self, box: Box, resolver: Resolver | None) -> None:
        """Have names resolved so from now on, where it is said how."""
        if resolver is None:
            return
        served = box.resolver is not None and box.resolver.embedded
        if resolver.embedded and not served:
            self._plumber.serve(box)
        box.resolver = resolver

    def disconnect(self, container: str, endpoint: str, resolver: Resolver | None = None) -> Box | None:
        """Take an endpoint from a container; unknown ones are fine. Raises NetworkError, OSError."""
        box = self.boxes.get(container)
        if box is None or endpoint not in box.cables:
            return box
        self._have_ports(box, [port for port in box.ports if port.endpoint != endpoint])
        cable = box.cables[endpoint]
        self._plumber.disconnect(box, endpoint)
        if cable.network.driver == "bridge":
            conntrack.forget([address.ip for address in cable.addresses])
        self._install(box)
        self._plumber.route_by_default(box)
        self._have_resolver(box, resolver)
        self._state.put_sandbox(box.record)
        return box

    def publish(self, container: str, ports: Sequence[Port]) -> Box:
        """Have exactly these ports lead to a container.

        Raises:
            NetworkError: and nothing has changed.
            LookupError: no such sandbox.
        """
        box = self._box(container)
        self._have_ports(box, ports)
        self._state.put_sandbox(box.record)
        return box

    def unplug(self, container: str) -> Box | None:
        """Let go of a sandbox: ports and addresses are free. Returns what is still to be closed.

        Nothing here fails: what can't be done is logged, since nobody could do it better later.
        """
        box = self.boxes.pop(container, None)
        if box is None:
            return None
        self._let_go(box)
        self._state.drop_sandbox(container)
        return box

    def _let_go(self, box: Box) -> None:
        try:
            self.firewall.change(removed=box.installed)
            box.installed = []
            self._close_ways(box)
        except (NetworkError, OSError) as error:
            log.error("container %s: %s", box.container, error)
        for sock in box.holders.values():
            sock.close()
        box.holders.clear()
        box.relays = {}
        self._plumber.silence(box)
        # While nobody else has the addresses: of his connections, none may go.
        bridged = (cable for cable in box.cables.values() if cable.network.driver == "bridge")
        # To look for them takes the kernel long, so not where there can't be any.
        conntrack.forget([address.ip for cable in bridged if self._plumber.used(cable) for address in cable.addresses])

    def _discard(self, box: Box) -> None:
        if box.installed or box.holders:
            self._let_go(box)
        box.close()

    def _box(self, container: str) -> Box:
        try:
            return self.boxes[container]
        except KeyError:
            raise LookupError(f"container {container} has no sandbox") from None

    def _routed(self, box: Box, port: Port) -> bool:
        return routed(box.cables[port.endpoint].network, ip_address(port.host_address).version)

    def _install(self, box: Box) -> None:
        """Have the firewall know what belongs to a sandbox, and nothing else of it."""
        wanted = box.elements()
        self.firewall.change(wanted, box.installed)
        box.installed = wanted

    def _have_ports(self, box: Box, ports: Sequence[Port]) -> None:
        """Change a sandbox's ports, all or nothing."""
        had, held = box.ports, dict(box.holders)
        new: dict[Port, socket.socket] = {}
        chosen: list[Port] = []
        if ports:
            self._look_at_bridges()
        try:
            chosen.extend(self._have_port(box, port, new) for port in ports)
            box.ports = tuple(chosen)
            box.holders = {port: sock for port, sock in (held | new).items() if port in chosen}
            settle(box, bridged=self.bridged)
            self._install(box)
        except BaseException:
            box.ports, box.holders = had, held
            settle(box, bridged=self.bridged)
            for sock in new.values():
                sock.close()
            raise
        for port, sock in held.items():
            if port not in box.holders:
                sock.close()
        for endpoint in {port.endpoint for port in box.holders if port not in held}:
            self._plumber.reflect(box, endpoint)

    def _look_at_bridges(self) -> None:
        """Somebody may have loaded br_netfilter since the last time. What is relayed once, that goes on."""
        wanted: frozenset[int] = frozenset()
        if self._policy.relay_loopback:
            wanted = self.bridged if len(self.bridged) == 2 else self.bridged | bridged_versions()
        if wanted == self.bridged:
            return
        self.bridged = wanted
        self.firewall.relay_loopback(6 in wanted)
        for box in self.boxes.values():
            settle(box, bridged=self.bridged)
            self._install(box)

    def _have_port(self, box: Box, port: Port, new: dict[Port, socket.socket]) -> Port:
        cable = box.cables.get(port.endpoint)
        if cable is None:
            raise NetworkError(f"container {box.container} has no endpoint {port.endpoint}", "unsupported", port)
        if cable.network.driver != "bridge" or cable.network.internal:
            what = "internal" if cable.network.internal else cable.network.driver
            raise NetworkError(f"ports can't be published on the {what} network {cable.network.name}", "unsupported", port)
        if port in box.holders:
            return port
        if self._routed(box, port):
            return msgspec.structs.replace(port, host_port=0)
        if (moved := next((known for known in box.holders if _place(known) == _place(port)), None)) is not None:
            # It leads to another endpoint from now on, and nobody gets it in between.
            new[port] = box.holders[moved].dup()
            return port
        chosen, sock = hold(port)
        new[chosen] = sock
        return chosen


def _place(port: Port) -> tuple[str, str, int]:
    """Where on the host a port is."""
    return port.protocol, port.host_address, port.host_port


def _ready_first(box: Box, endpoints: Iterable[tuple[Endpoint, NetworkSpec]]) -> list[tuple[Endpoint, NetworkSpec]]:
    """The endpoints, the one first for which the sandbox has a cable, each with the name that it has by its place."""
    named: list[tuple[Endpoint, NetworkSpec]] = []
    pairs = list(endpoints)
    taken = [endpoint.interface for endpoint, _ in pairs if endpoint.interface]
    for endpoint, network in pairs:
        name = endpoint.interface
        if not name:
            name = next(n for number in range(len(pairs)) if (n := f"{network.prefix}{number}") not in taken)
            taken.append(name)
        named.append((msgspec.structs.replace(endpoint, interface=name), network))
    if box.ready is not None:
        named.sort(key=lambda one: one[1].driver != "bridge")
    return named
