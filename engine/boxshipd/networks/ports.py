"""Published ports: what a container asks for, and which of the host's ports it gets.

Source: moby daemon/network.go (buildPortsRelatedCreateEndpointOptions), libnetwork/portallocator, whose messages these are.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping

from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from boxship.types.networks import PortMap
from msgspec import Struct

from boxshipd.errors import InternalError, InvalidParameter
from boxshipd.networks.model import Published

PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535
_RANGE_FILE = "/proc/sys/net/ipv4/ip_local_port_range"
_DEFAULT_RANGE = (49153, _LAST)
"""Where the kernel's range can't be read; IANA's dynamic ports."""


class Wanted(Struct, frozen=True):
    """A port that a container wants published; both host ports 0 for any, otherwise the first that is free between them.

    ``host_ip`` is empty for all addresses, of IPv4 and IPv6.
    """

    protocol: str
    port: int
    host_ip: str = ""
    first: int = 0
    last: int = 0

    @property
    def flexible(self) -> bool:
        """Whether another host port would do."""
        return self.first != self.last or not self.first


def parse_port(text: str) -> tuple[int, str]:
    """``80/tcp`` as its number and its protocol; a port without one is TCP's.

    Raises:
        InvalidParameter: it is none.
    """
    number, slash, protocol = text.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS or not _is_port(number) or int(number) == 0:
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(number), protocol


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= _LAST


def _host_ports(text: str) -> tuple[int, int]:
    """``""``, ``8080`` or ``8000-8010``."""
    if not text:
        return 0, 0
    first, dash, last = text.partition("/")[0].partition("-")
    last = last if dash else first
    if not _is_port(first) or not _is_port(last) or int(first) > int(last):
        raise InvalidParameter(f'invalid port specification: "{text}"')
    return int(first), int(last)


def validate_bindings(bindings: PortMap | None) -> None:
    """Check a request's bindings.

    Raises:
        InvalidParameter: with Docker's message.
    """
    for port, published in (bindings or {}).items():
        parse_port(port)
        for binding in published or ():
            _host_ports(binding.host_port)
            if binding.host_ip:
                try:
                    ipaddress.ip_address(binding.host_ip)
                except ValueError:
                    raise InvalidParameter(f'invalid IP address in port binding: "{binding.host_ip}"') from None


def exposed_ports(config: ContainerConfig, host: HostConfig) -> list[tuple[int, str]]:
    """The ports that a container exposes, those that are published among them, in the order of their numbers."""
    found = {parse_port(port) for port in host.port_bindings or ()}
    if config.exposed_ports:
        found |= {parse_port(port) for port in config.exposed_ports}
    return sorted(found)


def wanted_ports(config: ContainerConfig, host: HostConfig) -> list[Wanted]:
    """What is to be published: fixed host ports first, so that no random one takes theirs."""
    wanted: list[Wanted] = []
    bound = {parse_port(port): bindings for port, bindings in (host.port_bindings or {}).items()}
    for port, protocol in exposed_ports(config, host):
        bindings = bound.get((port, protocol))
        if not bindings:
            if host.publish_all_ports or bindings is not None:
                wanted.append(Wanted(protocol, port))
            continue
        for binding in bindings:
            first, last = _host_ports(binding.host_port)
            wanted.append(Wanted(protocol, port, binding.host_ip, first, last))
    return sorted(wanted, key=lambda item: (item.flexible, not item.first, item.port, item.protocol))


class HostPorts:
    """Which of the host's ports containers have. One per daemon, in memory; on record they are with the containers."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], list[str]] = {}
        self._begin, self._end = _dynamic_range()
        self._next = self._begin

    def allocate(self, wanted: Wanted, addresses: Iterable[str], avoid: frozenset[int] = frozenset()) -> list[Published]:
        """Take a port, the same one at each of ``addresses``.

        Args:
            wanted: what for.
            addresses: of the host.
            avoid: ports that turned out to be somebody else's.

        Raises:
            InternalError: it is a container's already, with Docker's message.
        """
        places = list(addresses)
        for number in self._candidates(wanted):
            if number in avoid or not all(self._free(wanted.protocol, number, place) for place in places):
                continue
            for place in places:
                self._held.setdefault((wanted.protocol, number), []).append(place)
            if not wanted.first:
                self._next = number + 1 if number < self._end else self._begin
            return [Published(protocol=wanted.protocol, port=wanted.port, host_ip=place, host_port=number) for place in places]
        if wanted.first:
            shown = next((p for p in places if not self._free(wanted.protocol, wanted.first, p)), places[0])
            raise InternalError(f"Bind for {join(shown, wanted.first)} failed: port is already allocated")
        raise InternalError("all ports are allocated")

    def hold(self, published: Published) -> None:
        """Take a port that a container is known to have."""
        places = self._held.setdefault((published.protocol, published.host_port), [])
        if published.host_ip not in places:
            places.append(published.host_ip)

    def release(self, ports: Iterable[Published]) -> None:
        """Take ports back."""
        for port in ports:
            places = self._held.get((port.protocol, port.host_port), [])
            if port.host_ip in places:
                places.remove(port.host_ip)
            if not places:
                self._held.pop((port.protocol, port.host_port), None)

    def _candidates(self, wanted: Wanted) -> Iterator[int]:
        if wanted.first:
            yield from range(wanted.first, wanted.last + 1)
            return
        yield from range(self._next, self._end + 1)
        yield from range(self._begin, self._next)

    def _free(self, protocol: str, number: int, place: str) -> bool:
        return not any(_clash(place, other) for other in self._held.get((protocol, number), ()))


def _clash(one: str, other: str) -> bool:
    """Two addresses are one where they are equal, or where one of them is all of the same family."""
    if (":" in one) != (":" in other):
        return False
    return one == other or one in {"0.0.0.0", "::"} or other in {"0.0.0.0", "::"}


def join(address: str, port: int) -> str:
    """An address and a port as Go writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def host_has_ipv6() -> bool:
    """Whether programs of the host can listen at IPv6 addresses. Source: moby libnetwork/netutils (IsV6Listenable)."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _dynamic_range() -> tuple[int, int]:
    try:
        with open(_RANGE_FILE, encoding="ascii") as file:
            begin, end = (int(word) for word in file.read().split())
    except (OSError, ValueError):
        return _DEFAULT_RANGE
    return begin, end


def port_map(exposed: Iterable[tuple[int, str]], published: Iterable[Published]) -> Mapping[str, list[Published]]:
    """Each exposed port, as ``80/tcp``, with where it is published."""
    found: dict[str, list[Published]] = {f"{port}/{protocol}": [] for port, protocol in exposed}
    for item in published:
        found.setdefault(f"{item.port}/{item.protocol}", []).append(item)
    return found
