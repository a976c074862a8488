"""SCTP where the kernel may have none: a first packet as a program sends it, and who gets it. Source: RFC 9260."""

from __future__ import annotations

import socket
import struct
import time

from support.topology import ABSENCE, PATIENCE, inside

PROTOCOL = 132
_INIT = 1


def available() -> bool:
    """Whether this kernel has sockets for it."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, PROTOCOL).close()
    except OSError:
        return False
    return True


def _checksum(data: bytes) -> int:
    """CRC32c."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def first_packet(source: int, destination: int) -> bytes:
    """An INIT chunk from one port to another."""
    chunk = struct.pack("!BBHIIHHI", _INIT, 0, 20, 0x1234567, 65536, 1, 1, 1)
    whole = struct.pack("!HHII", source, destination, 0, 0) + chunk
    return whole[:8] + struct.pack("<I", _checksum(whole)) + whole[12:]


def arrives(path: str, address: str, port: int, server: str, *, expected: bool, inner: int = 0) -> bool:
    """Whether the first packet that one namespace sends to an address and port arrives in another, ``server``, whole.

    ``inner``: at which port, where it isn't the same.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    head = 20 if family == socket.AF_INET else 0  # a raw socket of IPv4 shows the network's header as well
    with (
        inside(server, lambda: socket.socket(family, socket.SOCK_RAW, PROTOCOL)) as hearing,
        inside(path, lambda: socket.socket(family, socket.SOCK_RAW, PROTOCOL)) as asking,
    ):
        asking.sendto(first_packet(40000 + port % 1000, port), (address, 0))
        deadline = time.monotonic() + (PATIENCE if expected else ABSENCE)
        while (left := deadline - time.monotonic()) > 0:
            hearing.settimeout(left)
            try:
                data = hearing.recv(2000)[head:]
            except TimeoutError:
                return False
            if data[12] == _INIT and struct.unpack_from("!H", data, 2)[0] == (inner or port):
                return data[8:12] == struct.pack("<I", _checksum(data[:8] + bytes(4) + data[12:]))
    return False
