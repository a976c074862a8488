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
from errno import EADDRINUSE, EADDRNOTAVAIL
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

import msgspec

from boxrun.network.contract import Port
from boxrun.network.errors import NetworkError
from boxrun.network.relay.protocol import QUEUE

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_RETURN, _LOAD, _IF_EQUAL = 0x06, 0x20, 0x15
_DROP: Final = [(_RETURN, 0, 0, 0)]
_DESTINATION6: Final = 0xFFF00000 + 24
"""Of an IPv6 packet, from where the network's header begins."""
_SCTP: Final = 132


Admitted = Literal["nothing", "loopback", "everything"]


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
    """Let a holder have what is relayed; ``loopback`` is what is sent to ``::1``. Raises OSError."""
    if sock.type == socket.SOCK_STREAM:
        # Who comes while there is no relay waits here for the next.
        sock.listen(1 if what == "nothing" else QUEUE)
    if what != "everything":
        _filter(sock, _DROP if what == "nothing" else _to_loopback())
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # an earlier supervisor has let everything in already


def _to_loopback() -> list[tuple[int, int, int, int]]:
    words = struct.unpack("!4I", IPv6Address("::1").packed)
    program = []
    for number, word in enumerate(words):
        left = 2 * (len(words) - number) - 1
        program += [(_LOAD, 0, 0, _DESTINATION6 + 4 * number), (_IF_EQUAL, 0, left, word)]
    return [*program, (_RETURN, 0, 0, 0xFFFFFFFF), *_DROP]


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
