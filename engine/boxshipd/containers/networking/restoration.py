"""After a start of the daemon and after each connection to the runtime: networks, sandboxes and our records say the same.

The records know which networks and leases ought to be, the runtime knows which there are. What only it knows is removed, but
for the sandboxes of containers that run: their leases are taken up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from boxrun.network import contract
from boxrun.supervisor.contract import RuntimeEvent

from boxshipd.containers.model import Container
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.registry import Registry
from boxshipd.errors import DaemonError
from boxshipd.networks.kernel import NetworkKernel, lease_of
from boxshipd.networks.model import Network, Published
from boxshipd.networks.service import Networks
from boxshipd.scheduler.jobs import Job, Scheduler

log = logging.getLogger(__name__)


class Restoration:
    """Brings both sides together.

    ``transient`` says whether an id is that of a container that runs without a record.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        networks: Networks,
        kernel: NetworkKernel,
        networking: ContainerNetworking,
        scheduler: Scheduler,
        policy: contract.Policy,
        transient: Callable[[str], bool],
    ) -> None:
        self._registry = registry
        self._transient = transient
        self._networks = networks
        self._kernel = kernel
        self._networking = networking
        self._scheduler = scheduler
        self._task: asyncio.Task[None] | None = None
        self._policy = policy

    def take_up(self) -> None:
        """The daemon begins: what containers hold by their records is theirs before anybody else asks."""
        for container in self._registry:
            self._networks.leases.hold(container.id, container.state.leases, container.state.published)

    def heard(self, event: RuntimeEvent) -> None:
        """The runtime has told all it has of containers: now for their networks."""
        if event.kind == "listed":
            if self._task is not None:
                self._task.cancel()
            self._task = asyncio.create_task(self._restore())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _restore(self) -> None:
        try:
            await self._kernel.policy(self._policy)
            there = await self._kernel.list()
            await self._of_networks(there)
            for sandbox in there.sandboxes:
                await self._of_sandbox(sandbox)
            await self._names()
        except DaemonError as error:
            # Containers without networks need none of this, and a start on one makes sure of its network itself.
            log.warning("networks can't be brought up to date: %s", error)

    async def _of_networks(self, there: contract.NetworkList) -> None:
        known = {network.id for network in self._networks.all_and_coming if network.real}
        for spec in there.networks:
            if spec.id not in known:
                await self._kernel.forget(spec.id)
        found = {spec.id for spec in there.networks}
        for network in self._networks.all:
            if network.real and (network.id in found or self._networks.leases.members(network)):
                await self._need(network)

    async def _need(self, network: Network) -> None:
        try:
            await self._kernel.need(network)
        except DaemonError as error:
            log.error("%s", error)

    async def _of_sandbox(self, sandbox: contract.Sandbox) -> None:
        container = self._registry.get(sandbox.container)
        if container is None:
            if not self._transient(sandbox.container):
                await self._kernel.unplug(sandbox.container)
            return

        async def work(_: Job) -> None:
            state = container.state
            if container.removed or not (state.running or state.starting) or state.restarting:
                await self._kernel.unplug(container.id)
            elif sandbox.endpoints and (not state.leases or not all(lease.mac for lease in state.leases)):
                self._adopt(container, sandbox)

        await self._scheduler.run("network", container.id, work)

    def _adopt(self, container: Container, sandbox: contract.Sandbox) -> None:
        """It runs since before we came, and its start was not on record yet."""
        plugged = {item.endpoint: item for item in sandbox.plugged}
        state = container.state
        state.leases = tuple(lease_of(item, plugged.get(item.id)) for item in sandbox.endpoints)
        state.published = tuple(
            Published(protocol=port.protocol, port=port.container_port, host_ip=port.host_address, host_port=port.host_port)
            for port in sandbox.ports
        )
        self._networks.leases.hold(container.id, state.leases, state.published)
        for lease in state.leases:
            self._networks.leases.replace(container.id, lease)
        self._registry.save_later(container)

    async def _names(self) -> None:
        """Every name there is: a new supervisor knows none."""
        changes = []
        for network in self._networks.all:
            if not network.real or network.default or not self._networks.leases.members(network):
                continue
            records = []
            for container_id, lease in self._networks.leases.members(network).items():
                container = self._registry.get(container_id)
                if container is not None:
                    records.append(self._networking.record(container, network, lease))
            changes.append(contract.NamesChange(network=network.id, records=tuple(records), whole=True))
        if changes:
            await self._kernel.names(changes)
