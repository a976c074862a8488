"""Where this engine itself listens: whoever names an address for it to ask is not to have it ask itself."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OwnListeners:
    """The engine's TCP listeners.

    Args:
        listeners: the address and port of each.
    """

    def __init__(self, listeners: Iterable[tuple[str, int]] = ()) -> None:
        self._listeners = tuple((_parse(host), port) for host, port in listeners)

    def connector(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """A socket to connect to an address with, as ``getaddrinfo`` describes it; this late, no name can mean another one.

        Raises:
            OSError: the address is one of the engine's own.
        """
        family, kind, protocol, _, address = info
        if self.include(str(address[0]), int(str(address[1]))):
            # Without a number: the text is what a client is told.
            raise OSError("that is where this engine itself listens")
        return socket.socket(family, kind, protocol)

    def include(self, host: str, port: int) -> bool:
        """Whether somebody who connects there would reach one of them."""
        ports = [listener for listener, number in self._listeners if number == port]
        if not ports:
            return False
        peer = _parse(host)
        # To the kernel, nowhere in particular is this machine.
        return any(
            peer == listener or peer.is_unspecified or (listener.is_unspecified and _is_here(peer)) for listener in ports
        )


def _parse(host: str) -> _Address:
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def _is_here(address: _Address) -> bool:
    """Whether an address is this machine's: one can be bound to it."""
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((str(address), 0))
    except OSError:
        # Of a link-local address only its link would tell; whether it is the machine's own is not worth a doubt.
        return address.is_link_local
    return True
