"""The host's sockets behind published ports: a published port is bound, so a program of the host's can't have it as well, and
one that a program has can't be published.

Nothing arrives at them while the firewall translates. Should it not (it was flushed a moment ago), a filter drops everything,
so that nobody is told that nothing listens.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from errno import EADDRINUSE, EADDRNOTAVAIL
from ipaddress import ip_address
from typing import Final

import msgspec

from boxrun.network.contract import Port
from boxrun.network.errors import NetworkError

_SO_ATTACH_FILTER: Final = 26
_DROP: Final = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
_SCTP: Final = 132


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


def _bind(sock: socket.socket, port: Port) -> None:
    program = struct.pack("@HP", 1, ctypes.addressof(_DROP))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if port.protocol != "udp":
        # A program that has just ended may have left connections in TIME_WAIT, which are no reason to refuse.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((port.host_address, port.host_port))
    if port.protocol != "udp":
        sock.listen(1)
