"""The supervisor's side of the name server: starts it, keeps it told, and finds it again."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from boxrun.network.boxes import Box
from boxrun.network.companion.link import Companion
from boxrun.network.contract import Names, NamesChange, NetworkSpec, Record
from boxrun.network.dns import protocol
from boxrun.network.errors import NetworkError

log = logging.getLogger(__name__)

_PIECE: Final = 200
_ANSWER_SECONDS: Final = 5.0


class NameServer:
    """The name server of one run directory, there once a container needs it."""

    def __init__(self, directory: str) -> None:
        """``directory`` is where its socket is."""
        self._companion = Companion(directory, "dns", "boxrun.network.dns", heard=self._hear, died=self._died)
        self._post = self._companion.post
        self._names: dict[str, dict[str, Record]] = {}
        self._networks: dict[str, str] = {}
        self._boxes: Mapping[str, Box] = {}
        self._serve_again: Callable[[Box], Awaitable[None]] | None = None
        self._kept: set[str] = set()
        self._known: asyncio.Future[set[str]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self, boxes: Mapping[str, Box], serve_again: Callable[[Box], Awaitable[None]]) -> None:
        """Find the name server of an earlier supervisor, and have every container served that should be.

        Args:
            boxes: the sandboxes, as they are from now on.
            serve_again: makes a sandbox's sockets anew.
        """
        self._boxes, self._serve_again = boxes, serve_again
        if not self._companion.connect():
            await self._serve_all(())
            return
        self._known = asyncio.get_running_loop().create_future()
        wanted = [box.container for box in boxes.values() if _served(box)]
        for start in range(0, max(1, len(wanted)), _PIECE):
            last = start + _PIECE >= len(wanted)
            self._post(protocol.Keep(containers=tuple(wanted[start : start + _PIECE]), last=last))
        kept: set[str] = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                kept = await self._known
        await self._serve_all(kept)

    async def _serve_all(self, kept: Iterable[str]) -> None:
        kept = set(kept)
        for box in list(self._boxes.values()):
            if not _served(box) or self._serve_again is None:
                continue
            if box.container in kept:
                self.moved(box)
                continue
            try:
                await self._serve_again(box)
                await self.serve(box)
            except (NetworkError, OSError) as error:
                log.error("container %s has no name server: %s", box.container, error)

    async def serve(self, box: Box) -> None:
        """Have a container served, if it is to be. Raises OSError: the process can't be started."""
        if not _served(box) or box.servers is None:
            box.close_servers()
            return
        if not self._companion.there:
            await self._start()
        assert box.resolver is not None
        servers, box.servers = box.servers, None
        self._post(protocol.Serve(container=box.container, networks=_networks(box), resolver=box.resolver), servers)

    def moved(self, box: Box) -> None:
        """A container is on other networks now."""
        if _served(box) and box.resolver is not None:
            self._post(protocol.Moved(container=box.container, networks=_networks(box), resolver=box.resolver))

    def drop(self, container: str) -> None:
        """A container is gone."""
        self._post(protocol.Drop(container=container))

    def network(self, network: NetworkSpec) -> None:
        """What a network is called."""
        if network.name and self._networks.get(network.id) != network.name:
            self._networks[network.id] = network.name
            self._post(protocol.Network(id=network.id, name=network.name))

    def network_gone(self, identity: str) -> None:
        """A network is gone."""
        self._networks.pop(identity, None)
        self._names.pop(identity, None)
        self._post(protocol.Network(id=identity))

    def names(self, request: Names) -> None:
        """Names have changed."""
        for change in request.changes:
            known = self._names.setdefault(change.network, {})
            if change.whole:
                known.clear()
            for endpoint in change.gone:
                known.pop(endpoint, None)
            known.update({record.endpoint: record for record in change.records})
            self._post_change(change)

    def _post_change(self, change: NamesChange) -> None:
        """A change in pieces, each of which fits into a message."""
        records, gone = change.records, change.gone
        for start in range(0, max(1, len(records), len(gone)), _PIECE):
            piece = NamesChange(
                network=change.network,
                records=records[start : start + _PIECE],
                gone=gone[start : start + _PIECE],
                whole=change.whole and start == 0,
            )
            self._post(protocol.Change(change=piece))

    async def close(self, *, end: bool) -> None:
        """Let go of the process; ``end`` it."""
        self._serve_again = None
        for task in list(self._tasks):
            task.cancel()
        await self._companion.close(protocol.End() if end else None)

    # The process.

    async def _start(self) -> None:
        if not await self._companion.start():
            return
        for identity, name in self._networks.items():
            self._post(protocol.Network(id=identity, name=name))
        for identity, records in self._names.items():
            self._post_change(NamesChange(network=identity, records=tuple(records.values()), whole=True))

    def _hear(self, data: bytes, socks: Sequence[socket.socket]) -> None:
        for sock in socks:
            sock.close()
        kept = protocol.decode_kept(data)
        self._kept.update(kept.containers)
        if kept.last and self._known is not None and not self._known.done():
            self._known.set_result(self._kept)

    def _died(self) -> None:
        if self._serve_again is None:
            return
        log.error("the name server has died: another takes its place")
        task = asyncio.get_running_loop().create_task(self._serve_all(()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _served(box: Box) -> bool:
    return box.resolver is not None and box.resolver.embedded


def _networks(box: Box) -> tuple[str, ...]:
    return tuple(cable.endpoint.network for cable in box.cables.values())
