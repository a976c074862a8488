"""Sandboxes: a container's network namespace, the interfaces in it, and the sockets of its name server.

These are the acts themselves, for a thread (``NetThread``). Each is a batch or two of netlink messages; the sockets are opened
once for each namespace. Interfaces are numbered by us, so that a batch can go on with what its first message has made.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final

from boxrun.network import firewall_rules as rules
from boxrun.network import links, namespaces, nftables, rtnetlink
from boxrun.network.boxes import FIRST_INDEX, Box, Cable
from boxrun.network.contract import Endpoint, NetworkSpec, Sandbox
from boxrun.network.errors import KernelRefusalError, NetworkError
from boxrun.network.netlink import NetlinkSocket, Request

SERVER: Final = "127.0.0.11"
_TABLE: Final = "boxship-dns"
_LOOPBACK: Final = 1
_DEFAULTS: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_QUEUE: Final = 256


class Plumber:
    """Makes and changes sandboxes; ``home`` is the host's namespace. For one thread."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.home = namespaces.own()
        self._route = NetlinkSocket()

    def close(self) -> None:
        """Let go of the host's namespace."""
        self._route.close()
        os.close(self.home)

    def make(self, network: NetworkSpec | None, *, servers: bool) -> Box:
        """A new namespace, with a cable into ``network`` and a name server's sockets where wanted.

        Raises:
            NetworkError: the kernel refused; nothing is left.
        """
        with ExitStack() as undo:
            host = f"bx{secrets.token_hex(6)}"
            with namespaces.new(self.home) as namespace:
                undo.callback(os.close, namespace)
                route = undo.enter_context(NetlinkSocket())
                requests = [rtnetlink.link_up(_LOOPBACK)]
                if network is not None:
                    # Without this the interface would find itself an IPv6 address and announce it.
                    links.write_sysctl("ipv6/conf/default/disable_ipv6", "1")
                    name = f"{network.prefix}0"
                    requests.append(rtnetlink.add_veth(name, FIRST_INDEX, host, self.home, network.mtu))
                    requests.append(rtnetlink.link_up(FIRST_INDEX))
                route.run(requests)
                if network is not None:
                    links.write_sysctl("ipv6/conf/default/disable_ipv6", "0")
                box = Box(namespace, route)
                if servers:
                    box.servers = self._listen()
                    for sock in box.servers:
                        undo.callback(sock.close)
            if network is not None:
                box.next_index += 1
                box.ready = (host, self._plug_host_end(host, network))
            undo.pop_all()
        return box

    def adopt(self, namespace: int, *, servers: bool) -> Box:
        """Have a namespace that somebody else has made be a sandbox; the descriptor stays his. Raises NetworkError, OSError."""
        with ExitStack() as undo:
            own = os.dup(namespace)
            undo.callback(os.close, own)
            with namespaces.inside(own, self.home):
                route = undo.enter_context(NetlinkSocket())
                route.run([rtnetlink.link_up(_LOOPBACK)])
                box = Box(own, route)
                if servers:
                    box.servers = self._listen()
            undo.pop_all()
        return box

    def _plug_host_end(self, host: str, network: NetworkSpec) -> int:
        """Plug the host's end in; returns its number."""
        self._route.run(rtnetlink.enslave(host, links.index_of(network)))
        index = socket.if_nametoindex(host)
        if not network.icc:
            self._route.run([rtnetlink.isolate(index)])
        return index

    def _listen(self) -> tuple[socket.socket, socket.socket]:
        """The name server's sockets, in the namespace that this thread is in, with port 53 leading to them.

        They aren't at port 53, which the container may bind. The rules change the ports of packets as they pass and need no
        connection tracking, which would cost every packet of the container something.
        """
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            udp.bind((SERVER, 0))
            tcp.bind((SERVER, 0))
            tcp.listen(_QUEUE)
            with nftables.socket_here() as sock:
                nftables.commit(sock, *redirection(udp.getsockname()[1], tcp.getsockname()[1]))
        except BaseException:
            udp.close()
            tcp.close()
            raise
        return udp, tcp

    def serve(self, box: Box) -> None:
        """Have a name server's sockets in a sandbox, in the place of those that were there. Raises NetworkError, OSError."""
        box.close_servers()
        with namespaces.inside(box.namespace, self.home):
            box.servers = self._listen()

    def connect(self, box: Box, endpoint: Endpoint, network: NetworkSpec, *, alone: bool = False) -> Cable:
        """Plug an endpoint in; where it is ``alone``, with the default routes.

        Raises:
            NetworkError: the kernel refused; nothing of the endpoint is left.
        """
        name = endpoint.interface or _free_name(network.prefix, [cable.interface for cable in box.cables.values()])
        if not links.NAME.fullmatch(name) or any(cable.interface == name for cable in box.cables.values()):
            raise NetworkError(f"interface name {name!r} can't be had", "interface")
        if network.driver == "ipvlan" and endpoint.mac:
            raise NetworkError("ipvlan interfaces do not support custom mac address assignment", "unsupported")
        first = endpoint.addresses[0] if endpoint.addresses else endpoint.id
        mac = "" if network.driver == "ipvlan" else endpoint.mac or links.fixed_mac(network.id, first)
        taken = network.driver == "bridge" and box.ready is not None
        index = FIRST_INDEX if taken else box.next_index
        cable = Cable(endpoint, network, index, name, mac)
        try:
            cable.port = self._port(box, cable)
            self._configure(box, cable, _default_routes({endpoint.id: cable}) if alone else [])
            if cable.port:
                self._route.run([rtnetlink.learn(cable.port, mac)])
        except BaseException:
            with suppress(NetworkError):
                box.route.run([rtnetlink.delete_link(index)])
            raise
        finally:
            if taken:
                box.ready = None
        box.cables[endpoint.id] = cable
        return cable

    def _port(self, box: Box, cable: Cable) -> int:
        """Have the cable's interface in the sandbox; returns the number of the bridge's port, 0 for none."""
        network = cable.network
        if network.driver != "bridge":
            with namespaces.inside(box.namespace, self.home):
                links.write_sysctl("ipv6/conf/default/disable_ipv6", "1")
            self._route.run([_on_parent(box, cable)])
            with namespaces.inside(box.namespace, self.home):
                links.write_sysctl("ipv6/conf/default/disable_ipv6", "0")
            box.next_index += 1
            return 0
        if box.ready is not None:
            if cable.interface != f"{network.prefix}0":
                try:
                    box.route.run([rtnetlink.rename(cable.index, cable.interface)])
                except KernelRefusalError:  # before Linux 6.2 only a link that is down is given another name
                    box.route.run([rtnetlink.link_down(cable.index), rtnetlink.rename(cable.index, cable.interface)])
            return box.ready[1]
        host = f"bx{secrets.token_hex(6)}"
        box.route.run([rtnetlink.add_veth(cable.interface, cable.index, host, self.home, network.mtu)])
        box.next_index += 1
        return self._plug_host_end(host, network)

    def _configure(self, box: Box, cable: Cable, further: Sequence[Request]) -> None:
        """Give an interface what it is to have, and send ``further`` requests along."""
        addresses = cable.addresses
        v6 = any(address.version == 6 for address in addresses)
        requests = [rtnetlink.set_address(cable.index, cable.mac)] if cable.mac else []
        requests.append(rtnetlink.link_up(cable.index))
        requests += [rtnetlink.add_address(cable.index, address) for address in addresses]
        for route in cable.endpoint.routes:
            gateway = ipaddress.ip_address(route.gateway) if route.gateway else None
            requests.append(rtnetlink.add_route(cable.index, ipaddress.ip_network(route.destination, strict=False), gateway))
        requests += further
        settings = dict(_sysctls(cable))
        if v6 or settings or cable.network.driver != "bridge" or box.ready is None:
            with namespaces.inside(box.namespace, self.home):
                _prepare_v6(cable.interface, wanted=v6)
                box.route.run(requests)
                for name, value in settings.items():
                    try:
                        links.write_sysctl(name, value, required=True)
                    except OSError as error:
                        raise NetworkError(f"set sysctl {name.replace('/', '.')}: {error.strerror}") from error
        else:
            box.route.run(requests)

    def disconnect(self, box: Box, endpoint: str) -> None:
        """Take an endpoint away. Raises NetworkError."""
        cable = box.cables.pop(endpoint)
        box.route.run([rtnetlink.delete_link(cable.index)])

    def route_by_default(self, box: Box) -> None:
        """Have the default routes lead by the endpoints that should have them. Raises NetworkError."""
        box.route.run(_default_routes(box.cables))

    def reflect(self, box: Box, endpoint: str) -> None:
        """Let a container reach its own published ports by the host's address.

        Where bridges hand their packets to the firewall (br_netfilter), such a packet is translated before it leaves the
        bridge, and would have to go back by the port it came from.
        """
        if links.read_sysctl("bridge/bridge-nf-call-iptables") == "1":
            port = rtnetlink.peer_of(box.route.ask(rtnetlink.link_by_index(box.cables[endpoint].index)))
            if port:
                self._route.run([rtnetlink.reflect(port)])

    def detour(self, box: Box, cable: Cable, target: rules.Address) -> None:
        """Have packets to a neighbour go by way of the host, as those of a bridge whose ports are isolated must.

        The host would tell that there is a shorter way; it isn't believed. Raises NetworkError, OSError.
        """
        host = next((ipaddress.ip_interface(a).ip for a in cable.network.addresses if ":" not in a), None)
        if host is None:
            raise NetworkError(f"network {cable.network.name}: the host has no address there to pass packets on", "unsupported")
        with namespaces.inside(box.namespace, self.home):
            for name in ("all", cable.interface):
                links.write_sysctl(f"ipv4/conf/{name}/accept_redirects", "0")
        box.route.run([rtnetlink.add_route(cable.index, ipaddress.ip_network(target), host)])

    def used(self, cable: Cable) -> bool:
        """Whether anything has passed through a cable; where nobody knows, it has."""
        if not cable.port:
            return True
        try:
            return rtnetlink.packets_of(self._route.ask(rtnetlink.link_by_index(cable.port))) != (0, 0)
        except KernelRefusalError:  # the container has removed it
            return True

    def silence(self, box: Box) -> None:
        """Take the addresses away: nobody answers for them from this moment on, though the kernel takes its time."""
        requests = [rtnetlink.remove_address(c.index, address) for c in box.cables.values() for address in c.addresses]
        with suppress(NetworkError, OSError):
            box.route.run(requests)

    def find(self, sandbox: Sandbox, networks: Mapping[str, NetworkSpec], pid: int) -> Box:
        """The sandbox of a container that an earlier supervisor has plugged. Raises OSError."""
        with ExitStack() as undo:
            namespace = namespaces.of_process(pid)
            undo.callback(os.close, namespace)
            cables = {}
            with namespaces.inside(namespace, self.home):
                route = undo.enter_context(NetlinkSocket())
                names = {plugged.endpoint: plugged for plugged in sandbox.plugged}
                for endpoint in sandbox.endpoints:
                    if endpoint.network not in networks:
                        continue
                    plugged = names[endpoint.id]
                    with suppress(OSError):
                        index = socket.if_nametoindex(plugged.interface)
                        network = networks[endpoint.network]
                        cables[endpoint.id] = Cable(endpoint, network, index, plugged.interface, plugged.mac)
                following = max([FIRST_INDEX, *(index for index, _ in socket.if_nameindex())]) + 1
            box = Box(namespace, route, sandbox.container, following, cables=cables, resolver=sandbox.resolver)
            box.ports = tuple(port for port in sandbox.ports if port.endpoint in cables)
            box.ways = sandbox.ways
            undo.pop_all()
        return box


def gateways(cables: Mapping[str, Cable], version: int) -> list[tuple[Cable, rules.Address]]:
    """Who may have the default route of an IP version, the one who has it first."""
    able = []
    for cable in cables.values():
        gateway = cable.endpoint.gateway_v4 if version == 4 else cable.endpoint.gateway_v6
        if gateway and cable.first(version) is not None:
            able.append((cable, ipaddress.ip_address(gateway)))
    return sorted(able, key=lambda one: (-one[0].endpoint.gateway_priority, one[0].network.name, one[0].network.id))


def _default_routes(cables: Mapping[str, Cable]) -> list[Request]:
    requests = []
    for destination in _DEFAULTS:
        version = destination.version
        chosen = next(iter(gateways(cables, version)), None)
        if chosen is not None:
            cable, gateway = chosen
            if cable.network.driver == "ipvlan" and links.mode_of(cable.network) != "l2":
                # There are no neighbours to be asked: the parent's routes decide.
                requests.append(rtnetlink.add_route(cable.index, destination, None))
                continue
            link = next(address.network for address in cable.addresses if address.version == version)
            if gateway not in link and not gateway.is_link_local:
                requests.append(rtnetlink.add_route(cable.index, ipaddress.ip_network(gateway), None))
            requests.append(rtnetlink.add_route(cable.index, destination, gateway))
    return requests


def redirection(udp: int, tcp: int) -> list[nftables.Batch]:
    """The table that has port 53 of the name server's address lead to these, in the place of one that was there."""
    old, batch = nftables.Batch("ip", _TABLE), nftables.Batch("ip", _TABLE)
    old.add_table()
    old.delete_table()
    batch.add_table()
    batch.add_base_chain("output", "filter", "output", rules.RAW)
    server = ipaddress.ip_address(SERVER).packed
    for number, port in ((17, udp), (6, tcp)):
        to = [nftables.address_field(4, "destination"), nftables.compare(server), *nftables.protocol(number)]
        back = [nftables.address_field(4, "source"), nftables.compare(server), *nftables.protocol(number)]
        asked, answered = (53).to_bytes(2, "big"), port.to_bytes(2, "big")
        batch.rule("output", to, nftables.port_field("destination"), nftables.compare(asked), nftables.store(2, answered))
        batch.rule("output", back, nftables.port_field("source"), nftables.compare(answered), nftables.store(0, asked))
    return [old, batch]


def _on_parent(box: Box, cable: Cable) -> Request:
    """What has an interface of a macvlan or ipvlan network be in a sandbox. Raises NetworkError: there is no parent."""
    network, parent = cable.network, links.index_of(cable.network)
    name, index, mode = cable.interface, cable.index, links.mode_of(network)
    if network.driver == "macvlan":
        return rtnetlink.add_macvlan(name, index, parent=parent, namespace=box.namespace, mode=mode, mtu=network.mtu)
    flag = network.flag or links.IPVLAN_FLAGS[0]
    return rtnetlink.add_ipvlan(name, index, parent=parent, namespace=box.namespace, mode=mode, flag=flag, mtu=network.mtu)


def _free_name(prefix: str, taken: Sequence[str]) -> str:
    return next(name for number in range(len(taken) + 1) if (name := f"{prefix}{number}") not in taken)


def _prepare_v6(interface: str, *, wanted: bool) -> None:
    if not wanted:
        links.write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", "1")
        return
    # Addresses and routes are the daemon's to give; nobody else on the network has a say.
    links.write_sysctl(f"ipv6/conf/{interface}/accept_ra", "0")
    links.write_sysctl(f"ipv6/conf/{interface}/accept_dad", "0")
    links.write_sysctl(f"ipv6/conf/{interface}/disable_ipv6", "0")


def _sysctls(cable: Cable) -> Iterator[tuple[str, str]]:
    """The endpoint's settings as paths below net. Raises NetworkError: one that isn't its interface's."""
    for name, value in cable.endpoint.sysctls.items():
        parts = name.split(".")
        if len(parts) != 5 or parts[0] != "net" or parts[3] != "IFNAME" or "/" in name or ".." in name:
            raise NetworkError(f"sysctl {name} is not one of an interface", "unsupported")
        yield "/".join([*parts[1:3], cable.interface, parts[4]]), value
