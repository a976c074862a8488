"""Sandboxes made ahead of time, so that a start only gives one its address.

Filled in the background by a thread of its own, for each network as many as its description asks for. A sandbox that was used
is never used again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque

from boxrun.network.boxes import Box
from boxrun.network.contract import NetworkSpec
from boxrun.network.errors import NetworkError
from boxrun.network.namespaces import NetThread
from boxrun.network.sandboxes import Plumber

log = logging.getLogger(__name__)


class Pool:
    """Ready sandboxes, by network."""

    def __init__(self) -> None:
        self._thread = NetThread("boxrun-pool")
        self._plumber: Plumber | None = None
        self._ready: defaultdict[str, deque[Box]] = defaultdict(deque)
        self._networks: dict[str, NetworkSpec] = {}
        self._servers: dict[str, bool] = {}
        self._fillers: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    def want(self, network: NetworkSpec) -> None:
        """Keep sandboxes for a network; those for what it was before are thrown away."""
        known = self._networks.get(network.id)
        if known == network or network.driver != "bridge":
            return
        self._networks[network.id] = network
        self._throw_away(network.id)
        self._fill(network.id)

    def forget(self, network: str) -> None:
        """Keep none any more."""
        self._networks.pop(network, None)
        self._throw_away(network)

    def take(self, network: str, *, servers: bool) -> Box | None:
        """A sandbox that is the caller's now; None where none is ready. ``servers``: with a name server's sockets.

        ``refill`` is to follow.
        """
        self._servers[network] = servers
        ready = self._ready.get(network)
        return ready.popleft() if ready else None

    def refill(self, network: str) -> None:
        """Make others in the place of those taken, once half of them are gone.

        Not while the one that was taken is plugged in: making one holds the lock of all network devices, and longer.
        """
        known = self._networks.get(network)
        if known is not None and self.ready(network) <= known.pool // 2:
            self._fill(network)

    def ready(self, network: str) -> int:
        """How many are ready."""
        return len(self._ready[network])

    async def close(self) -> None:
        """Throw everything away and end the thread."""
        self._closed = True
        tasks = list(self._fillers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for network in list(self._ready):
            self._throw_away(network)
        await asyncio.to_thread(self._thread.close)
        if self._plumber is not None:
            self._plumber.close()

    def _throw_away(self, network: str) -> None:
        for box in self._ready.pop(network, ()):
            box.close()

    def _fill(self, network: str) -> None:
        if self._closed or network in self._fillers or network not in self._networks:
            return
        task = self._fillers[network] = asyncio.get_running_loop().create_task(self._filled(network))
        task.add_done_callback(lambda _: self._fillers.pop(network, None))

    async def _filled(self, identity: str) -> None:
        while (network := self._networks.get(identity)) is not None and len(self._ready[identity]) < network.pool:
            making = self._thread.run(self._make, network, self._servers.get(identity, True))
            try:
                box = await making
            except (NetworkError, OSError) as error:
                log.warning("network %s: no sandbox ahead of time: %s", network.name or network.id, error)
                return
            if self._closed or self._networks.get(identity) is not network:
                box.close()
            else:
                self._ready[identity].append(box)

    def _make(self, network: NetworkSpec, servers: bool) -> Box:
        if self._plumber is None:
            self._plumber = Plumber()
        return self._plumber.make(network, servers=servers)
