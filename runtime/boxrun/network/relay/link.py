"""The supervisor's side of the relay: starts it, tells it what to relay, and has an earlier supervisor's sockets from it."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from boxrun.network.boxes import Box
from boxrun.network.companion.link import Companion
from boxrun.network.relay import protocol
from boxrun.network.relay.protocol import Relay
from boxrun.network.relay.wanted import Sockets

log = logging.getLogger(__name__)

_PIECE: Final = 50
_ANSWER_SECONDS: Final = 5.0


class Relays:
    """The relay of one run directory, there once a port needs it."""

    def __init__(self, directory: str) -> None:
        """``directory`` is where its socket is."""
        self._companion = Companion(directory, "relay", "boxrun.network.relay", heard=self._hear, died=self._died)
        self._known: dict[str, frozenset[Relay]] = {}
        self._boxes: Mapping[str, Box] = {}
        self._numbers = itertools.count(1)
        self._closing: dict[int, asyncio.Future[None]] = {}
        self._told: asyncio.Future[None] | None = None
        self._found: Sockets = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = True

    async def find(self) -> Sockets:
        """The sockets that the relay of an earlier supervisor has; the caller's."""
        if not self._companion.connect():
            return {}
        self._told = asyncio.get_running_loop().create_future()
        self._companion.post(protocol.Tell())
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._told
        except TimeoutError:
            log.error("the relay says nothing: another takes its place")
            await self._companion.kill()
        found, self._found = self._found, {}
        return found

    async def recover(self, boxes: Mapping[str, Box]) -> None:
        """Have everything relayed that should be, and nothing else; ``boxes`` are the sandboxes, from now on."""
        self._boxes = boxes
        for container in [one for one in self._known if one not in boxes]:
            await self._relay(container, {})
        for box in list(boxes.values()):
            await self.have(box)

    async def have(self, box: Box) -> None:
        """Have what is to be relayed of a container relayed, and nothing else; ports let go of are free when this returns."""
        if box.relays or box.container in self._known:
            await self._relay(box.container, box.relays)

    async def drop(self, container: str) -> None:
        """A container is gone; its ports are free when this returns."""
        if container in self._known:
            await self._relay(container, {})

    async def _relay(self, container: str, relays: Mapping[Relay, socket.socket]) -> None:
        if relays:
            try:
                await self._companion.start()
            except OSError as error:
                log.error("container %s: ports can't be relayed: %s", container, error)
                return
        known, gone = self._known.get(container, frozenset()), container not in self._boxes
        if gone:
            self._known.pop(container, None)
        else:
            self._known[container] = frozenset(relays)
        if gone or known - relays.keys():
            await self._close(container, tuple(known & relays.keys()), gone=gone)
        self._listen([(relay, sock) for relay, sock in relays.items() if relay not in known])

    def _listen(self, new: Sequence[tuple[Relay, socket.socket]]) -> None:
        for start in range(0, len(new), _PIECE):
            piece = new[start : start + _PIECE]
            try:
                socks = [sock.dup() for _, sock in piece]
            except OSError as error:
                log.error("container %s: ports can't be relayed: %s", piece[0][0].container, error)
                return
            self._companion.post(protocol.Listen(tuple(relay for relay, _ in piece)), socks)

    async def _close(self, container: str, keep: tuple[Relay, ...], *, gone: bool) -> None:
        if not self._companion.there:
            return
        number = next(self._numbers)
        closed = self._closing[number] = asyncio.get_running_loop().create_future()
        self._companion.post(protocol.Close(number=number, container=container, keep=keep, gone=gone))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await closed
        except TimeoutError:
            # It would hold ports that are somebody else's next.
            log.error("the relay doesn't do what it is told: another takes its place")
            await self._companion.kill()
        finally:
            self._closing.pop(number, None)

    def _hear(self, data: bytes, socks: list[socket.socket]) -> None:
        try:
            answer = protocol.decode_answer(data)
        except msgspec.MsgspecError:  # a newer one's
            answer = None
        if isinstance(answer, protocol.Told):
            self._companion.pid = answer.pid
            for relay, sock in zip(answer.relays, socks, strict=False):
                self._known[relay.container] = self._known.get(relay.container, frozenset()) | {relay}
                self._found[relay.protocol, relay.host_address, relay.host_port] = sock
            if answer.last and self._told is not None and not self._told.done():
                self._told.set_result(None)
            return
        for sock in socks:
            sock.close()
        if isinstance(answer, protocol.Closed):
            closed = self._closing.get(answer.number)
            if closed is not None and not closed.done():
                closed.set_result(None)

    def _died(self) -> None:
        self._known.clear()
        for waiting in (*self._closing.values(), self._told):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)  # what it had is nobody's any more
        if self._open and any(box.relays for box in self._boxes.values()):
            log.error("the relay has died: another takes its place")
            task = asyncio.get_running_loop().create_task(self.recover(self._boxes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self, *, end: bool) -> None:
        """Let go of the process; ``end`` it."""
        self._open = False
        for task in list(self._tasks):
            task.cancel()
        await self._companion.close(protocol.End() if end else None)
