"""What EXPOSE says: ports, ranges of them, and the addresses and host ports that nobody uses.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert_expose.go, whose messages these are.
"""

from __future__ import annotations

import ipaddress

from msgspec import Struct

from boxshipd.errors import InvalidParameter

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535


class Exposed(Struct, frozen=True):
    """One word of EXPOSE.

    ``ports`` are as the configuration has them, ``80/tcp``. ``shouts``: the protocol isn't in lower case. ``publishes``: an
    address or a host port was given, which EXPOSE has no use for.
    """

    ports: tuple[str, ...]
    shouts: bool = False
    publishes: bool = False


def parse_exposed(word: str) -> Exposed:
    """Read ``[[address:]host port:]port[-port][/protocol]``.

    Raises:
        InvalidParameter: it is nothing of the kind.
    """
    *front, container = word.split(":")
    host = front.pop() if front else ""
    address = ":".join(front)
    numbers, _, protocol = container.partition("/")
    if not numbers:
        raise InvalidParameter(f'invalid port: "{word}": no port specified')
    if protocol and protocol.lower() not in _PROTOCOLS:
        raise InvalidParameter(f'invalid port: "{word}": invalid proto: {protocol}')
    _check_address(address)
    ports = _range(numbers, f"invalid containerPort: {numbers}")
    if host:
        _check_host(host, ports, numbers)
    name = protocol.lower() or "tcp"
    return Exposed(tuple(f"{port}/{name}" for port in ports), protocol != protocol.lower(), bool(address or host))


def _check_address(address: str) -> None:
    if not address:
        return
    bare = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        raise InvalidParameter(f"invalid IP address: {bare}") from None


def _check_host(host: str, ports: range, numbers: str) -> None:
    """A range of host ports must be as long as that of the container's, unless that is one port."""
    if len(_range(host, f"invalid hostPort: {host}")) != len(ports) != 1:
        raise InvalidParameter(f"invalid ranges specified for container and host Ports: {numbers} and {host}")


def _range(text: str, failure: str) -> range:
    first, dash, last = text.partition("-")
    bounds = (first, last) if dash else (first, first)
    if not all(each.isascii() and each.isdigit() and len(each) <= 5 and int(each) <= _LAST for each in bounds):
        raise InvalidParameter(failure)
    low, high = int(bounds[0]), int(bounds[1])
    if high < low:
        raise InvalidParameter(failure)
    return range(low, high + 1)
