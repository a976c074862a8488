"""Networks without a kernel: what the runtime is asked is noted, and it answers as it was told to."""

from __future__ import annotations

from pathlib import Path

from boxrun.network import contract
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.model import Network
from boxshipd.networks.pools import AddressPool
from boxshipd.networks.service import Networks
from boxshipd.networks.settings import NetworkDefaults
from boxshipd.scheduler.jobs import Scheduler
from boxshipd.state.store import Store

POOLS = (AddressPool("10.9.0.0/16", 24), AddressPool("fd42:9::/48", 64))


class NotingKernel(NetworkKernel):
    """The runtime's side, as a list of what was asked; ``refuses`` are networks' names with what they are refused with."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []
        self.there = contract.NetworkList()
        self.refuses: dict[str, DaemonError] = {}

    async def need(self, network: Network) -> None:
        if network.name in self.refuses:
            raise self.refuses[network.name]
        self.asked.append(("need", network.name))

    async def forget(self, network_id: str) -> None:
        self.asked.append(("forget", network_id))

    async def remove(self, network: Network) -> None:
        self.asked.append(("remove", network.name))

    async def connect(self, request: contract.ConnectRequest) -> contract.PlugReply:
        self.asked.append(("connect", request))
        made = contract.Plugged(endpoint=request.endpoint.id, interface=request.endpoint.interface, mac="02:00:00:00:00:01")
        return contract.PlugReply(endpoints=(made,), ports=request.ports)

    async def disconnect(self, container: str, endpoint: str) -> None:
        self.asked.append(("disconnect", endpoint))

    async def publish(self, container: str, ports) -> contract.PlugReply:
        self.asked.append(("publish", tuple(ports)))
        return contract.PlugReply()

    async def unplug(self, container: str) -> None:
        self.asked.append(("unplug", container))

    async def names(self, changes) -> None:
        self.asked.append(("names", tuple(changes)))

    async def policy(self, policy: contract.Policy) -> None:
        self.asked.append(("policy", policy))

    async def list(self) -> contract.NetworkList:
        return self.there

    def of(self, what: str) -> list:
        """What was asked of one kind."""
        return [detail for kind, detail in self.asked if kind == what]


class NetworkBench:
    """A network service with a store, events and the kernel above. Close it."""

    def __init__(self, directory: Path, **defaults: object) -> None:
        self.store = Store.open(str(directory / "state.db"))
        self.events = Events()
        self.heard = self.events.subscribe()
        self.kernel = NotingKernel()
        self.scheduler = Scheduler()
        self.networks = Networks(
            store=self.store,
            settings=NetworkDefaults(**{"pools": POOLS, "identity": "test", "bridge": "bxu0", **defaults}),
            kernel=self.kernel,
            scheduler=self.scheduler,
            publish=self.events.publish,
        )

    async def __aenter__(self) -> NetworkBench:
        await self.networks.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.scheduler.close(5)
        self.store.close()
