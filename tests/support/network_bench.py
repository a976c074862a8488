"""Networks without a kernel: what the runtime is asked is noted, and it answers as it was told to."""

from __future__ import annotations

from pathlib import Path

from boxrun.container.spec import Log
from boxrun.network import contract
from boxship.types.containers import ContainerConfig, CreateRequest
from boxship.types.host import HostConfig
from boxship.types.networks import NetworkCreateRequest, NetworkingConfig, PortBinding
from boxshipd.containers.model import Config, Container, State
from boxshipd.containers.networking.attachment import Attachment
from boxshipd.containers.networking.config import canonical_mode, plan
from boxshipd.containers.networking.joining import Joining
from boxshipd.containers.networking.plugging import ContainerNetworking
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.model import Network
from boxshipd.networks.pools import AddressPool
from boxshipd.networks.service import Networks
from boxshipd.networks.settings import NetworkSettings, with_local_pool
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

    async def disconnect(self, container: str, endpoint: str, resolver: contract.Resolver | None) -> None:
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
            settings=with_local_pool(NetworkSettings(**{"default_address_pools": POOLS, "bridge": "bxu0", **defaults}), "test"),
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


class ContainerBench(NetworkBench):
    """The network service with containers beside it."""

    def __init__(self, directory: Path, **defaults: object) -> None:
        super().__init__(directory, **defaults)
        self.directory = directory
        self.registry = Registry(self.store, str(directory / "containers"))
        settings = Settings(data_root=str(directory), exec_root="/nowhere", dns=("192.0.2.53",))
        self.networking = ContainerNetworking(
            registry=self.registry, networks=self.networks, kernel=self.kernel, settings=lambda: settings
        )
        self.attachment = Attachment(
            self.registry, self.networks, Joining(self.networks, self.kernel, self.networking), self.scheduler
        )
        self.number = 0

    async def __aenter__(self) -> ContainerBench:
        await self.networks.open()
        await self.registry.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.networking.settle()
        self.registry.flush()
        await super().__aexit__()

    async def network(self, name: str, **fields: object):
        answer = await self.networks.create(NetworkCreateRequest(name=name, **fields))
        return self.networks.find(answer.id)

    async def create(self, name: str, mode: str = "default", *, endpoints=None, hostname="", exposed=(), **host) -> Container:
        """A container as ``create`` makes it, as far as networks are concerned."""
        self.number += 1
        id_ = f"{self.number:x}" * 64
        config = ContainerConfig(hostname=hostname or id_[:12], exposed_ports={port: {} for port in exposed})
        host_config = HostConfig(network_mode=canonical_mode(mode, self.networks), **host)
        request = CreateRequest(networking_config=NetworkingConfig(endpoints), exposed_ports=config.exposed_ports)
        networking, _ = plan(request, host_config, self.networks)
        self.networking.links.validate(host_config, (networking.endpoints_config or {}).values())
        record = Config(
            id=id_,
            created=self.number,
            image_id="sha256:x",
            layers=(),
            config=config,
            host_config=host_config,
            path="sh",
            args=[],
            log=Log(),
            networking=networking,
        )
        directory = self.directory / "containers" / id_
        directory.mkdir(parents=True)
        container = Container(name, record, State(), str(directory))
        self.registry.reserve(name, id_)
        await self.registry.add(container)
        return container

    async def start(self, container: Container) -> contract.PlugRequest | None:
        """What a start does about networks."""
        request = await self.networking.plug(container)
        container.state.running = True
        made = tuple(
            contract.Plugged(endpoint=end.id, interface=end.interface, mac=end.mac or f"02:42:00:00:00:{number:02x}")
            for number, end in enumerate(request.endpoints if request else ())
        )
        self.networking.plugged(container, contract.PlugReply(endpoints=made, ports=request.ports) if request else None)
        return request

    async def stop(self, container: Container) -> None:
        container.state.running = False
        self.networking.left(container)
        await self.networking.settle()

    def hosts(self, container: Container) -> list[str]:
        return (Path(container.directory) / "hosts").read_text().splitlines()[6:]


def publish(*ports: str, ip: str = "") -> dict[str, list[PortBinding]]:
    """``8080:80/tcp`` and the like as a port map."""
    return {port.partition(":")[2]: [PortBinding(host_ip=ip, host_port=port.partition(":")[0])] for port in ports}
