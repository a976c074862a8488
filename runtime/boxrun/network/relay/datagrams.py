"""UDP: a socket of its own towards the container for each client, so that answers find their way back."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any, Final

from boxrun.network.relay.protocol import Relay

IDLE_SECONDS: Final = 90.0
"""How long a client is remembered that neither says nor hears anything; as docker-proxy has it."""

MOST_CLIENTS: Final = 4096
"""Clients of a port; the one that was quiet for longest makes room for another."""

_BATCH: Final = 64
"""Datagrams before it is another's turn."""

_LARGEST: Final = 65535
_IP_PKTINFO: Final = 8
_ANCILLARY: Final = socket.CMSG_SPACE(20)

Client = tuple[Any, ...]
"""A client's address, and which of the host's it has sent to, in a control message's form."""


class Session:
    """One client's."""

    def __init__(self, relay: Relay, client: Client, back: Callable[[Client, bytes], None]) -> None:
        """``back`` sends an answer to the client. Raises OSError."""
        self._client, self._back = client, back
        self._loop = asyncio.get_running_loop()
        self.used = self._loop.time()
        family = socket.AF_INET6 if ":" in relay.address else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._sock.connect((relay.address, relay.port))
        except BaseException:
            self._sock.close()
            raise
        self._loop.add_reader(self._sock, self._readable)

    def close(self) -> None:
        """Forget the client."""
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def send(self, data: bytes) -> None:
        """Pass on what the client has sent."""
        with suppress(OSError):  # a full queue, or nobody at the port: a datagram's lot
            self._sock.send(data)

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data = self._sock.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # nobody is at the port yet
            self._back(self._client, data)


class Datagrams:
    """A bound socket and its clients."""

    def __init__(self, relay: Relay, sock: socket.socket) -> None:
        """Take ``sock`` over. Raises OSError."""
        self.relay, self.sock = relay, sock
        self._loop = asyncio.get_running_loop()
        self._sessions: OrderedDict[Client, Session] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._loop.add_reader(sock, self._readable)

    def close(self) -> None:
        """Stop; there is no going on without the socket, by which answers go."""
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock)
            self.sock.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    end = close

    @property
    def busy(self) -> bool:
        """Whether there are clients."""
        return bool(self._sessions)

    def _readable(self) -> None:
        for _ in range(_BATCH):
            try:
                data, ancillary, _, address = self.sock.recvmsg(_LARGEST, _ANCILLARY)
            except OSError:
                return
            session = self._session((address, reply_source(ancillary)))
            if session is not None:
                session.send(data)

    def _session(self, client: Client) -> Session | None:
        session = self._sessions.get(client)
        if session is None:
            if len(self._sessions) >= MOST_CLIENTS:
                self._sessions.popitem(last=False)[1].close()
            try:
                session = self._sessions[client] = Session(self.relay, client, self._back)
            except OSError:
                return None
            self._watch()
        self._touch(client, session)
        return session

    def _touch(self, client: Client, session: Session) -> None:
        session.used = self._loop.time()
        self._sessions.move_to_end(client)

    def _back(self, client: Client, data: bytes) -> None:
        address, source = client
        with suppress(OSError):
            self.sock.sendmsg([data], [source] if source is not None else [], 0, address)
        self._touch(client, self._sessions[client])

    def _watch(self) -> None:
        """Have the next one forgotten in time."""
        if self._timer is None and self._sessions:
            oldest = next(iter(self._sessions.values()))
            self._timer = self._loop.call_at(oldest.used + IDLE_SECONDS, self._forget)

    def _forget(self) -> None:
        self._timer = None
        late = self._loop.time() - IDLE_SECONDS
        for client, session in list(self._sessions.items()):
            if session.used > late:
                break
            del self._sessions[client]
            session.close()
        self._watch()


def reply_source(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, bytes] | None:
    """The control message by which an answer has the address that the client has sent to, from the one that came with it.

    The interface is left to the routes, but for a link's own addresses. Source: ipv6(7), ip(7).
    """
    for level, kind, content in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            address, index = struct.unpack("=16sI", content)
            if not IPv6Address(address).is_link_local:
                index = 0
            return level, kind, struct.pack("=16sI", address, index)
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, _, address = struct.unpack("=I4s4s", content)
            return level, kind, struct.pack("=I4s4s", 0, address, address)
    return None
