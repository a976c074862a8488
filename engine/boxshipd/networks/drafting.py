"""From a request to a network's record: what is left open is filled in, what can't be is refused.

Source: moby daemon/network.go (createNetwork), libnetwork/controller.go and network.go, whose messages these are.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network

from boxship.types import networks as api
from msgspec.structs import replace

from boxshipd.errors import Forbidden, InvalidParameter, NotFound
from boxshipd.networks import options
from boxshipd.networks.host_routes import connected_networks
from boxshipd.networks.ipam import first_address
from boxshipd.networks.model import AnyNetwork, Network, Subnet
from boxshipd.networks.pools import check_overlap, free_subnet
from boxshipd.networks.settings import NetworkSettings
from boxshipd.networks.validation import validate_ipam

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
NO_ADDRESSES = "null"
"""The IPAM driver that gives out none."""

DRIVERS = ("bridge", "ipvlan", "macvlan")
"""Those that a network can be made with."""


def draft(request: api.NetworkCreateRequest, settings: NetworkSettings, source: Network | None) -> tuple[Network, list[str]]:
    """A network as it is to be, but for its pools; and warnings.

    Args:
        request: of a client.
        settings: the daemon's.
        source: the configuration-only network that the request names.

    Raises:
        InvalidParameter, Forbidden, NotFound: with Docker's message.
    """
    _check_names(request)
    driver = request.driver or "bridge"
    _check_driver(driver)
    given = dict(request.options or {})
    if source is None:
        given = {**settings.default_network_opts.get(driver, {}), **given}
    ipv4, ipv6 = _families(request, given)
    ipam = request.ipam
    if source is not None:
        if given or request.internal or (ipam is not None and (ipam.config or ipam.options)):
            raise Forbidden("user-specified configurations are not supported if the network depends on a configuration network")
        given, ipv4, ipv6 = source.options, source.ipv4, source.ipv6
    manager = (ipam.driver if ipam is not None else "") or "default"
    bare = manager == NO_ADDRESSES and driver != "bridge"
    if not ipv4 and not ipv6 and not request.config_only and not bare:
        raise InvalidParameter("IPv4 or IPv6 must be enabled")
    validate_ipam(ipam, ipv6=ipv6)
    options.validate(driver, given)
    if manager not in {"default", NO_ADDRESSES}:
        raise NotFound(f'plugin "{manager}" not found')
    if ipam is not None and ipam.options:
        raise InvalidParameter(f"invalid IPAM options {', '.join(sorted(ipam.options))}: the {manager} IPAM driver has none")
    if manager == NO_ADDRESSES:
        _check_without_addresses(ipam, ipv4=ipv4, ipv6=ipv6)
    subnets, warnings = _configured(ipam, ipv6=ipv6)
    network = Network(
        id=secrets.token_hex(32),
        name=request.name,
        created=time.time_ns(),
        driver=driver,
        subnets=source.subnets if source is not None else subnets,
        ipv4=ipv4,
        ipv6=ipv6,
        internal=source.internal if source is not None else request.internal,
        attachable=request.attachable,
        ipam_driver=manager,
        options=dict(given),
        labels=dict(request.labels or {}),
        config_only=request.config_only,
        config_from=source.name if source is not None else "",
    )
    return network, warnings


def _check_without_addresses(ipam: api.IPAM | None, *, ipv4: bool, ipv6: bool) -> None:
    """A network whose containers find their addresses themselves can't have any family that we would give out addresses of.

    Source: moby libnetwork/ipams/null, drivers/macvlan (CreateNetwork).
    """
    for config in (ipam.config if ipam is not None else None) or ():
        what = "subpool" if not config.subnet and config.ip_range else "pool"
        raise InvalidParameter(f"null ipam driver does not handle specific address {what} requests")
    for version, wanted in ((4, ipv4), (6, ipv6)):
        if wanted:
            raise InvalidParameter(f"ipv{version} pool is empty")


def _check_names(request: api.NetworkCreateRequest) -> None:
    if not request.name.strip():
        raise InvalidParameter("invalid network name: name is empty")
    if request.ingress or request.scope == "swarm" or request.driver == "overlay":
        raise Forbidden(_NO_SWARM)
    if request.scope not in {"", "local"}:
        raise InvalidParameter(f"invalid network scope: {request.scope}")
    if request.config_only and request.config_from is not None and request.config_from.network:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    if request.config_only and request.driver not in {"", "null", "bridge"}:
        raise Forbidden("network driver is not supported for config-only networks")


def _check_driver(driver: str) -> None:
    if driver in {"host", "null"}:
        raise Forbidden(f'only one instance of "{driver}" network is allowed')
    if driver not in DRIVERS:
        raise NotFound(f'could not find plugin {driver} in v1 plugin registry: plugin "{driver}" not found')


def _families(request: api.NetworkCreateRequest, given: dict[str, str]) -> tuple[bool, bool]:
    """Whether it has IPv4 and IPv6; what the request says goes before the driver's options."""
    found = []
    for wanted, name, default in (
        (request.enable_ipv4, options.ENABLE_4, True),
        (request.enable_ipv6, options.ENABLE_6, False),
    ):
        if wanted is not None:
            given.pop(name, None)
        found.append(wanted if wanted is not None else options.truth(name, given[name]) if name in given else default)
    return found[0], found[1]


def _configured(ipam: api.IPAM | None, *, ipv6: bool) -> tuple[tuple[Subnet, ...], list[str]]:
    subnets, warnings = [], []
    for config in (ipam.config if ipam is not None else None) or ():
        pool = config.subnet if isinstance(config.subnet, str) else ""
        if ":" in pool and not ipv6:
            warnings.append(f"subnet {pool} is not used: IPv6 is not enabled for this network")
            continue
        subnets.append(
            Subnet(
                pool=str(ip_network(pool)),
                range=config.ip_range if isinstance(config.ip_range, str) else "",
                gateway=config.gateway if isinstance(config.gateway, str) else "",
                aux=config.aux_addresses if isinstance(config.aux_addresses, dict) else {},
                configured=True,
            )
        )
    return tuple(subnets), warnings


def with_addresses(network: Network, settings: NetworkSettings, others: Sequence[Network]) -> Network:
    """A drafted network with subnets and gateways; nothing is awaited, so that two drafts never get the same.

    Args:
        network: what was drafted.
        settings: the daemon's.
        others: all other networks.

    Raises:
        Forbidden: a subnet overlaps with another network's, or the driver takes only one.
        InvalidParameter: no subnet is left, or no address for the gateway.
    """
    if network.config_only:
        return network
    taken: list[AnyNetwork] = [subnet.network for other in others if not other.config_only for subnet in other.subnets]
    subnets = list(network.subnets)
    for subnet in subnets:
        check_overlap(subnet.network, taken)
        taken.append(subnet.network)
    for version, wanted in ((4, network.ipv4), (6, network.ipv6)):
        mine = [subnet for subnet in subnets if subnet.version == version]
        if len(mine) > 1 and network.driver == "bridge":
            raise Forbidden("bridge driver doesn't support multiple subnets")
        if wanted and not mine:
            chosen = free_subnet(settings.default_address_pools, version, [*taken, *connected_networks()])
            subnets.append(Subnet(pool=str(chosen)))
        if not wanted:
            subnets = [subnet for subnet in subnets if subnet.version != version]
    return replace(network, subnets=tuple(_with_gateway(network, subnet) for subnet in subnets))


def _with_gateway(network: Network, subnet: Subnet) -> Subnet:
    """A bridge's gateway is the bridge, which needs an address; of the other drivers it is a router that somebody names."""
    if network.driver == "bridge" and not subnet.gateway and not _isolated(network.options, subnet.version):
        return replace(subnet, gateway=first_address(subnet))
    return subnet


def _isolated(given: Mapping[str, str], version: int) -> bool:
    return given.get(options.GATEWAY_MODE_4 if version == 4 else options.GATEWAY_MODE_6) == "isolated"


def bridge_name(network: Network) -> str:
    """The interface of a bridge network in the host."""
    return network.options.get(options.NAME) or f"br-{network.id[:12]}"


def check_bridge_name(network: Network, others: Iterable[Network]) -> None:
    """Refuse a bridge that another network's is.

    Raises:
        Forbidden: with Docker's message.
    """
    if network.driver != "bridge" or network.config_only:
        return
    for other in others:
        if other.driver == "bridge" and not other.config_only and bridge_name(other) == bridge_name(network):
            raise Forbidden(
                f"network {network.id} ({bridge_name(network)}): conflicts with network {other.id} ({bridge_name(other)}): "
                "networks have same bridge name"
            )
