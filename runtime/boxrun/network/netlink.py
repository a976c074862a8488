"""Netlink sockets: a batch of requests in one system call, and dumps.

What is done once for each container is packed by hand (``rtnetlink``, ``nftables``): pyroute2 takes 1.7 ms of processor time
for each message, and a start has ten. What is done once for each network has pyroute2's codecs (``links``).
Sources: netlink(7), rtnetlink(7), linux/netlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Self

from boxrun.network.errors import KernelRefusalError

ROUTE: Final = 0
NETFILTER: Final = 12

REQUEST: Final = 0x1
ACK: Final = 0x4
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
APPEND: Final = 0x800
REPLACE: Final = 0x100
DUMP: Final = 0x300

NESTED: Final = 0x8000

_ERROR: Final = 2
_DONE: Final = 3
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_CAPPED: Final = 0x100
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RECEIVE: Final = 1 << 17
_SEND_BUFFER: Final = 1 << 22
_SO_SNDBUFFORCE: Final = 32


class Request(NamedTuple):
    """One message.

    Args:
        kind: the message's type.
        flags: beside REQUEST.
        body: what comes behind the header.
        operation: for the error's text.
        tolerated: error numbers that are as good as success.
    """

    kind: int
    flags: int
    body: bytes
    operation: str
    tolerated: frozenset[int] = frozenset()


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of others."""
    return attribute(kind | NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def u16(kind: int, value: int) -> bytes:
    """A number of 16 bits in the host's order."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """A number of 32 bits in the host's order."""
    return attribute(kind, struct.pack("=I", value))


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The attributes in ``data``; what is cut off ends them."""
    offset, view = 0, memoryview(data)
    while offset + 4 <= len(view):
        length, kind = _ATTRIBUTE.unpack_from(view, offset)
        if length < 4 or offset + length > len(view):
            return
        yield kind & 0x3FFF, bytes(view[offset + 4 : offset + length])
        offset += length + (-length % 4)


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, memoryview]]:
    """The messages in a datagram: type, flags, sequence, port, body."""
    offset, view = 0, memoryview(data)
    while offset + 16 <= len(view):
        length, kind, flags, sequence, port = _HEADER.unpack_from(view, offset)
        if length < 16:
            return
        yield kind, flags, sequence, port, view[offset + 16 : offset + length]
        offset += length + (-length % 4)


class NetlinkSocket:
    """A socket in the network namespace that the calling thread is in when this is made."""

    def __init__(self, protocol: int = ROUTE) -> None:
        """Raises OSError."""
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._sequence = 0
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The number by which notifications name this socket as the one that made a change."""
        return int(self._socket.getsockname()[0])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def run(self, requests: Sequence[Request]) -> None:
        """Send ``requests`` in one go; the kernel takes each, whatever becomes of those before.

        Raises:
            KernelRefusalError: the first one's that was refused.
        """
        if not requests:
            return
        first = self._sequence + 1
        parts = []
        for number, request in enumerate(requests, 1):
            # One that fails is answered in any case, before those behind it.
            parts += [self._header(request, ACK if number == len(requests) else 0), request.body, bytes(-len(request.body) % 4)]
        self._socket.send(b"".join(parts))
        self._acknowledged(requests, first, {self._sequence})

    def transact(self, requests: Sequence[Request], begin: Request, end: Request) -> None:
        """Send ``requests`` as one transaction of nfnetlink: all or none of them.

        Raises:
            KernelRefusalError: one was refused.
        """
        parts = [self._header(begin, 0), begin.body]
        first = self._sequence + 1
        for request in requests:
            parts += [self._header(request, ACK), request.body, bytes(-len(request.body) % 4)]
        parts += [self._header(end, 0), end.body]
        data = b"".join(parts)
        if len(data) > 100_000:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
        self._socket.send(data)
        self._acknowledged(requests, first, set(range(first, first + len(requests))))

    def _header(self, request: Request, flags: int) -> bytes:
        self._sequence += 1
        return _HEADER.pack(16 + len(request.body), request.kind, request.flags | REQUEST | flags, self._sequence, 0)

    def _acknowledged(self, requests: Sequence[Request], first: int, waiting: set[int]) -> None:
        """Read answers until those that are ``waiting``, by sequence number, have come."""
        failure: KernelRefusalError | None = None
        while waiting:
            for kind, flags, sequence, _, body in messages(self._socket.recv(_RECEIVE)):
                if kind != _ERROR or not first - 1 <= sequence <= first + len(requests):
                    continue
                waiting.discard(sequence)
                errno = -struct.unpack_from("=i", body)[0]
                index = sequence - first
                operation = requests[index].operation if 0 <= index < len(requests) else "netlink batch"
                tolerated = requests[index].tolerated if 0 <= index < len(requests) else frozenset()
                if errno and errno not in tolerated and failure is None:
                    failure = KernelRefusalError(operation, errno, _explanation(flags, body))
                    if not 0 <= index < len(requests):
                        waiting.clear()
        if failure is not None:
            raise failure

    def ask(self, request: Request) -> bytes:
        """The one answer's body.

        Raises:
            KernelRefusalError: refused.
        """
        self._socket.send(self._header(request, 0) + request.body)
        while True:
            for kind, flags, sequence, _, body in messages(self._socket.recv(_RECEIVE)):
                if sequence != self._sequence:
                    continue
                if kind == _ERROR:
                    errno = -struct.unpack_from("=i", body)[0]
                    raise KernelRefusalError(request.operation, errno, _explanation(flags, body))
                return bytes(body)

    def dump(self, kind: int, body: bytes, operation: str) -> list[tuple[int, bytes]]:
        """Everything of a kind: types and bodies.

        Raises:
            KernelRefusalError: refused.
        """
        self._socket.send(self._header(Request(kind, DUMP, body, operation), 0) + body)
        found: list[tuple[int, bytes]] = []
        while True:
            for answer, _, sequence, _, content in messages(self._socket.recv(1 << 20)):
                if sequence != self._sequence:
                    continue
                if answer == _DONE:
                    return found
                if answer == _ERROR:
                    raise KernelRefusalError(operation, -struct.unpack_from("=i", content)[0])
                found.append((answer, bytes(content)))


def _explanation(flags: int, body: memoryview) -> str:
    """What the kernel says beside the error's number."""
    if not flags & 0x200:  # NLM_F_ACK_TLVS
        return ""
    rest = body[20:] if flags & _CAPPED else body[4 + struct.unpack_from("=I", body, 4)[0] :]
    return next((value.rstrip(b"\0").decode("utf-8", "replace") for kind, value in attributes(rest) if kind == 1), "")
