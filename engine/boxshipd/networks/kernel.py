"""The runtime's side of networks: what is asked of it, and in which words it says why it can't.

What it knows of networks is lost with its process; so which ones it has is noted per connection, and a network that is needed
is made sure of once in each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from boxrun.network import contract
from boxrun.network.contract import Networks as Service
from boxrun.supervisor.contract import RuntimeEvent
from msgspec import convert

from boxshipd.errors import DaemonError, InternalError, InvalidParameter, NotImplementedHere
from boxshipd.networks import options
from boxshipd.networks.drafting import bridge_name
from boxshipd.networks.model import Lease, Network
from boxshipd.runtime.errors import NetworkFailed
from boxshipd.runtime.link import RuntimeLink

POOL = 4
"""Sandboxes that are kept ready of each network with containers."""
_TIMEOUT = 60.0


class NetworkKernel:
    """Networks in the kernel, by way of the runtime."""

    def __init__(self, link: RuntimeLink) -> None:
        self._link = link
        self._present: dict[str, asyncio.Future[None]] = {}
        link.observe(self._heard)

    def _heard(self, event: RuntimeEvent) -> None:
        if event.kind == "listed":
            # Another connection, perhaps to another supervisor.
            self._present.clear()

    async def need(self, network: Network) -> None:
        """Have a network be there; nothing is asked where it is already.

        Raises:
            NotImplementedHere: this machine can't have such networks.
            InternalError: it can't be made.
            Unavailable: there is no runtime.
        """
        present = self._present.get(network.id)
        if present is None:
            present = self._present[network.id] = asyncio.ensure_future(self._ensure(network))
        try:
            await asyncio.shield(present)
        except DaemonError:
            if self._present.get(network.id) is present:
                del self._present[network.id]
            raise

    async def _ensure(self, network: Network) -> None:
        try:
            await self._link.call(Service.ensure, describe(network), f"create network {network.name}", timeout=_TIMEOUT)
        except NetworkFailed as error:
            raise refusal(error, network) from error

    async def remove(self, network: Network) -> None:
        """Have a network be gone."""
        self._present.pop(network.id, None)
        await self.forget(network.id)

    async def forget(self, network_id: str) -> None:
        """Have a network be gone that only the runtime knows."""
        request = contract.NetworkRef(id=network_id)
        await self._link.call(Service.remove, request, f"remove network {network_id}", timeout=_TIMEOUT)

    async def connect(self, request: contract.ConnectRequest) -> contract.PlugReply:
        """Plug an endpoint into a running container."""
        return await self._link.call(Service.connect, request, f"connect container {request.container}", timeout=_TIMEOUT)

    async def disconnect(self, container: str, endpoint: str, resolver: contract.Resolver | None) -> None:
        """Take an endpoint from a running container, whose names are resolved otherwise then, or as before."""
        request = contract.DisconnectRequest(container=container, endpoint=endpoint, resolver=resolver)
        await self._link.call(Service.disconnect, request, f"disconnect container {container}", timeout=_TIMEOUT)

    async def publish(self, container: str, ports: Iterable[contract.Port]) -> contract.PlugReply:
        """Have exactly these ports lead to a container."""
        request = contract.PublishRequest(container=container, ports=tuple(ports))
        return await self._link.call(Service.publish, request, f"publish ports of container {container}", timeout=_TIMEOUT)

    async def unplug(self, container: str) -> None:
        """Have a container's sandbox be gone; its ports and addresses are free then."""
        request = contract.SandboxRef(container=container)
        await self._link.call(Service.unplug, request, f"unplug container {container}", timeout=_TIMEOUT)

    async def names(self, changes: Iterable[contract.NamesChange]) -> None:
        """Pass on names that have changed."""
        await self._link.call(Service.names, contract.Names(changes=tuple(changes)), "change names")

    async def policy(self, policy: contract.Policy) -> None:
        """Set the host's policy."""
        await self._link.call(Service.policy, policy, "set the networks' policy")

    async def list(self) -> contract.NetworkList:
        """Everything that the runtime has."""
        return await self._link.call(Service.list, contract.Nothing(), "list networks", timeout=_TIMEOUT)


def refusal(error: NetworkFailed, network: Network) -> DaemonError:
    """Why a network can't be made, as the API's kind of error."""
    text = f"{network.driver} network {network.name}: {error.failure.message}"
    if error.failure.kind == "unsupported":
        return NotImplementedHere(text)
    if error.failure.kind == "interface":
        return InvalidParameter(text)
    return InternalError(text)


def describe(network: Network) -> contract.NetworkSpec:
    """A network in the runtime's terms."""
    given = network.options
    masquerade = options.flag(given, options.MASQUERADE, True)
    return contract.NetworkSpec(
        id=network.id,
        name=network.name,
        driver=_driver(network.driver),
        interface=bridge_name(network) if network.driver == "bridge" else given.get(options.PARENT, ""),
        foreign=network.foreign,
        mode=given.get(options.MODES[network.driver][0], "") if network.driver in options.MODES else "",
        flag=given.get(options.IPVLAN_FLAG, ""),
        mtu=options.mtu(given),
        internal=network.internal,
        icc=options.flag(given, options.ICC, True),
        subnets=tuple(subnet.pool for subnet in network.subnets),
        addresses=_host_addresses(network),
        gateway_mode_v4=_mode(given, options.GATEWAY_MODE_4),
        gateway_mode_v6=_mode(given, options.GATEWAY_MODE_6),
        masquerade_v4=masquerade,
        masquerade_v6=masquerade,
        snat_v4=given.get(options.HOST_IPV4, ""),
        snat_v6=given.get(options.HOST_IPV6, ""),
        trusted_interfaces=tuple(name for name in given.get(options.TRUSTED, "").split(":") if name),
        prefix=given.get(options.PREFIX, "eth"),
        pool=POOL if network.driver == "bridge" else 0,
    )


def _driver(name: str) -> contract.Driver:
    if name == "macvlan":
        return "macvlan"
    return "ipvlan" if name == "ipvlan" else "bridge"


def _mode(given: Mapping[str, str], name: str) -> contract.GatewayMode:
    mode: contract.GatewayMode = convert(given.get(name, "nat"), contract.GatewayMode)
    return mode


def _host_addresses(network: Network) -> tuple[str, ...]:
    """The bridge's own: the gateways, but for those that somebody else is."""
    if network.driver != "bridge":
        return ()
    found = []
    for subnet in network.subnets:
        if subnet.version == 4 and options.flag(network.options, options.INHIBIT, False):
            continue
        if subnet.gateway:
            found.append(f"{subnet.gateway}/{subnet.network.prefixlen}")
    return tuple(found)


def endpoint(
    lease: Lease, *, priority: int = 0, sysctls: Mapping[str, str] | None = None, extra: Iterable[str] = ()
) -> contract.Endpoint:
    """A lease in the runtime's terms.

    Args:
        lease: what is leased.
        priority: of its gateway.
        sysctls: of its interface.
        extra: further addresses, of its link alone (cidr).
    """
    return contract.Endpoint(
        id=lease.endpoint,
        network=lease.network,
        interface=lease.interface,
        mac=lease.mac,
        addresses=tuple(address for address in (lease.ipv4, lease.ipv6) if address) + tuple(extra),
        gateway_v4=lease.gateway4,
        gateway_v6=lease.gateway6,
        gateway_priority=priority,
        sysctls=dict(sysctls or {}),
    )


def lease_of(found: contract.Endpoint, plugged: contract.Plugged | None) -> Lease:
    """What a container holds by the runtime's word, for want of a record."""
    return Lease(
        network=found.network,
        endpoint=found.id,
        interface=plugged.interface if plugged else found.interface,
        ipv4=next((address for address in found.addresses if ":" not in address), ""),
        ipv6=next((address for address in found.addresses if ":" in address and not address.startswith("fe80")), ""),
        gateway4=found.gateway_v4,
        gateway6=found.gateway_v6,
        mac=plugged.mac if plugged else found.mac,
    )
