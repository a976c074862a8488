"""The host's sockets behind published ports: a published port is bound, so a program of the host's can't have it as well, and
one that a program has can't be published.

Nothing arrives at them while the firewall translates. Should it not (it was flushed a moment ago), a filter drops everything,
so that nobody is told that nothing listens. Those of which something is relayed let that in (``let_in``).
Sources: linux/filter.h (``SKF_NET_OFF``), socket(7).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from errno import EADDRINUSE, EADDRNOTAVAIL
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, Literal, NamedTuple

import msgspec

from boxrun.network.contract import Port
from boxrun.network.errors import NetworkError
from boxrun.network.relay.protocol import QUEUE

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_RETURN, _LOAD, _AND, _IF_EQUAL = 0x06, 0x20, 0x54, 0x15
_ACCEPT: Final = [(_RETURN, 0, 0, 0xFFFFFFFF)]
_DROP: Final = [(_RETURN, 0, 0, 0)]
_HEADER: Final = 0xFFF00000
"""From here on offsets count from where the network's header begins (``SKF_NET_OFF``)."""

_ENDS: Final = {("source", 4): 12, ("destination", 4): 16, ("source", 6): 8, ("destination", 6): 24}
_SCTP: Final = 132


class Some(NamedTuple):
    """Packets that have an address of a network at this end."""

    end: Literal["source", "destination"]
    network: IPv4Network | IPv6Network


TO_LOOPBACK: Final = Some("destination", IPv6Network("::1"))

Admitted = Literal["everything"] | Sequence[Some]
"""What a socket lets in."""


def hold(port: Port) -> tuple[Port, socket.socket]:
    """Bind a port of the host's, in the calling thread's namespace; returns it with the number it got.

    Raises:
        NetworkError: it is taken, or the address isn't the host's.
    """
    family = socket.AF_INET if ip_address(port.host_address).version == 4 else socket.AF_INET6
    kind = socket.SOCK_DGRAM if port.protocol == "udp" else socket.SOCK_STREAM
    try:
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, _SCTP if port.protocol == "sctp" else 0)
    except OSError as error:
        raise NetworkError(f"this kernel has no sockets for {port.protocol}: {error.strerror}", "unsupported", port) from error
    try:
        _bind(sock, port)
        return msgspec.structs.replace(port, host_port=sock.getsockname()[1]), sock
    except OSError as error:
        sock.close()
        text = f"{port.host_address}:{port.host_port}/{port.protocol}"
        if error.errno == EADDRINUSE:
            raise NetworkError(f"address already in use: {text}", "port", port) from error
        if error.errno == EADDRNOTAVAIL:
            raise NetworkError(f"cannot assign requested address: {text}", "address", port) from error
        raise NetworkError(f"bind {text}: {error.strerror}", "kernel", port) from error


def let_in(sock: socket.socket, what: Admitted) -> None:
    """Let a holder have what is relayed. Raises OSError."""
    if sock.type == socket.SOCK_STREAM:
        # Who comes while there is no relay waits here for the next.
        sock.listen(QUEUE if what else 1)
    if what != "everything":
        _filter(sock, [*(step for some in what for step in _accept(some)), *_DROP])
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # an earlier supervisor has let everything in already


def _accept(some: Some) -> list[tuple[int, int, int, int]]:
    """The steps of a filter that accept such packets, and for all others go on behind them."""
    first = _HEADER + _ENDS[some.end, some.network.version]
    masks, words = some.network.netmask.packed, some.network.network_address.packed
    program = []
    for offset in range(0, len(words), 4):
        behind = 3 * (len(words) - offset) // 4 - 2
        (bits,), (word,) = struct.unpack_from("!I", masks, offset), struct.unpack_from("!I", words, offset)
        program += [(_LOAD, 0, 0, first + offset), (_AND, 0, 0, bits), (_IF_EQUAL, 0, behind, word)]
    return [*program, *_ACCEPT]


def _filter(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _bind(sock: socket.socket, port: Port) -> None:
    _filter(sock, _DROP)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if port.protocol != "udp":
        # A program that has just ended may have left connections in TIME_WAIT, which are no reason to refuse.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((port.host_address, port.host_port))
    if port.protocol != "udp":
        sock.listen(1)
