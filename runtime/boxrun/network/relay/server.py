"""The relay's process: sockets of the host, and the supervisor's orders."""

from __future__ import annotations

import logging
import os
import socket
from typing import Final

from boxrun.network.companion.process import Orders
from boxrun.network.relay import protocol
from boxrun.network.relay.datagrams import Datagrams
from boxrun.network.relay.protocol import Relay
from boxrun.network.relay.streams import Streams

log = logging.getLogger(__name__)

PIECE: Final = 50
"""Relays in a message."""


class RelayProcess:
    """Every relayed port."""

    def __init__(self, listening: socket.socket) -> None:
        """``listening`` is where supervisors connect."""
        self._orders = Orders(listening, self._do)
        self._relays: dict[Relay, Streams | Datagrams] = {}
        self._closed: dict[str, list[Streams | Datagrams]] = {}
        """Closed ones of containers that go on, whose connections do so, too."""

    async def run(self) -> None:
        """Serve until told to end."""
        await self._orders.run()
        for relay in list(self._relays):
            self._relays.pop(relay).end()

    async def _do(self, data: bytes, socks: list[socket.socket]) -> None:
        order = protocol.decode_order(data)
        match order:
            case protocol.Listen():
                for relay, sock in zip(order.relays, socks, strict=True):
                    self._listen(relay, sock)
            case protocol.Close():
                self._close(order)
                await self._orders.answer(protocol.Closed(order.number))
            case protocol.Tell():
                await self._tell()
            case protocol.End():
                self._orders.end()

    def _listen(self, relay: Relay, sock: socket.socket) -> None:
        known = self._relays.pop(relay, None)
        if known is not None:
            known.close()
        try:
            self._relays[relay] = Streams(relay, sock) if relay.protocol == "tcp" else Datagrams(relay, sock)
        except OSError as error:
            sock.close()
            log.error("container %s: port %s/%s isn't relayed: %s", relay.container, relay.host_port, relay.protocol, error)

    def _close(self, order: protocol.Close) -> None:
        closed = self._closed.setdefault(order.container, [])
        for relay in [one for one in self._relays if one.container == order.container and one not in order.keep]:
            listener = self._relays.pop(relay)
            listener.close()
            closed.append(listener)
        if order.gone:
            for listener in closed:
                listener.end()
        self._closed[order.container] = [listener for listener in closed if listener.busy]
        if not self._closed[order.container]:
            del self._closed[order.container]

    async def _tell(self) -> None:
        held = list(self._relays.items())
        pieces = [held[start : start + PIECE] for start in range(0, len(held), PIECE)] or [[]]
        for number, piece in enumerate(pieces, 1):
            told = protocol.Told(pid=os.getpid(), relays=tuple(relay for relay, _ in piece), last=number == len(pieces))
            await self._orders.answer(told, [listener.sock for _, listener in piece])
