"""Which networks a container is to be on: what its creation and ``network connect`` say of that, checked and made complete.

Source: moby daemon/create.go, container_operations.go (updateContainerNetworkSettings, updateNetworkSettings),
api/server/router/container (handleMACAddressBC); the messages are Docker's.
"""

from __future__ import annotations

from boxship.types.containers import ContainerConfig, CreateRequest
from boxship.types.host import HostConfig
from boxship.types.networks import EndpointSettings, NetworkingConfig
from msgspec.structs import replace

from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.networks.model import BRIDGE, DEFAULT_MODES, HOST, NONE, Network
from boxshipd.networks.ports import parse_port, validate_bindings
from boxshipd.networks.service import Networks
from boxshipd.networks.validation import valid_mac, validate_endpoint

_SHARED = "container sharing network namespace with another container or host cannot be connected to any other network"
_PRIVATE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_MAC_DEPRECATED = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
_DISCARDED = "Published ports are discarded when using {} network mode"


def canonical_mode(mode: str, networks: Networks) -> str:
    """A network mode as ``inspect`` shows it: an id that was abbreviated is written out.

    Raises:
        InvalidParameter: there is no such network.
    """
    if mode in DEFAULT_MODES:
        return BRIDGE
    if mode in {HOST, NONE} or mode.startswith("container:"):
        return mode
    network = _find(mode, networks)
    if network.predefined:
        return network.name
    return mode if mode in {network.id, network.name} else network.id


def _find(ref: str, networks: Networks) -> Network:
    """A network. Not a 404 where there is none: clients take one from create for a missing image, and would pull it."""
    try:
        return networks.find(ref)
    except NotFound as error:
        raise InvalidParameter(str(error)) from error


def plan(request: CreateRequest, host: HostConfig, networks: Networks) -> tuple[NetworkingConfig, list[str]]:
    """The networks of a new container, the first being its network mode's; and warnings.

    Args:
        request: of the client.
        host: its host configuration, with a canonical network mode.
        networks: all there are.

    Raises:
        InvalidParameter: they can't be.
    """
    validate_bindings(host.port_bindings)
    for port in request.exposed_ports or ():
        parse_port(port)
    mode = host.network_mode
    given = (request.networking_config.endpoints_config if request.networking_config else None) or {}
    if mode.startswith("container:"):
        if given:
            raise InvalidParameter(_SHARED)
        return NetworkingConfig(), []
    found: dict[str, EndpointSettings] = {}
    for ref, settings in given.items():
        name = BRIDGE if ref in DEFAULT_MODES else _find(ref, networks).name
        found[name] = configured(settings)
    main = BRIDGE if mode == BRIDGE else networks.find(mode).name
    if not found or (mode not in {BRIDGE, HOST, NONE} and main not in found):
        found = {main: EndpointSettings(), **found}
    if main in found:
        found = {main: found[main], **found}
    warnings = _container_wide_mac(request, main, found)
    for name, settings in found.items():
        if name == BRIDGE and networks.of_mode(BRIDGE) is None:
            continue
        validate_endpoint(settings, networks.find(name))
    _check_together(list(found))
    if host.port_bindings and mode in {HOST, NONE}:
        warnings.append(_DISCARDED.format(mode))
    return NetworkingConfig(endpoints_config=dict(found)), warnings


def configured(settings: EndpointSettings | None) -> EndpointSettings:
    """The part of an endpoint's settings that is a client's to say; the rest is what was the case once."""
    if settings is None:
        return EndpointSettings()
    return EndpointSettings(
        ipam_config=settings.ipam_config,
        links=settings.links,
        aliases=settings.aliases,
        mac_address=settings.mac_address.replace("-", ":").lower(),
        driver_opts=settings.driver_opts,
        gw_priority=settings.gw_priority,
    )


def _container_wide_mac(request: CreateRequest, main: str, found: dict[str, EndpointSettings]) -> list[str]:
    mac = request.mac_address or ""
    if not mac:
        return []
    if not valid_mac(mac):
        raise InvalidParameter(f"invalid MAC address {mac}")
    if main not in found:
        raise InvalidParameter("conflicting options: mac-address and the network mode")
    own = found[main].mac_address
    mac = mac.replace("-", ":").lower()
    if own and own != mac:
        raise InvalidParameter(
            "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
        )
    found[main] = replace(found[main], mac_address=mac)
    return [] if own else [_MAC_DEPRECATED]


def _check_together(names: list[str]) -> None:
    """A container without a network of its own can't have others beside."""
    if len(names) < 2:
        return
    if HOST in names:
        raise InvalidParameter(_SHARED)
    if NONE in names:
        raise InvalidParameter(_PRIVATE)


def endpoints_of(host: HostConfig, networking: NetworkingConfig | None) -> dict[str, EndpointSettings]:
    """A container's networks by name, with what was asked for; of a record of before there were networks, its mode's."""
    found = (networking.endpoints_config if networking is not None else None) or {}
    if found:
        return {name: settings or EndpointSettings() for name, settings in found.items()}
    mode = host.network_mode
    if mode.startswith("container:") or networking is not None:
        return {}
    return {BRIDGE if mode in DEFAULT_MODES else mode: EndpointSettings()}


def with_endpoint(
    host: HostConfig, networking: NetworkingConfig | None, network: Network, settings: EndpointSettings
) -> NetworkingConfig:
    """A container's networks with another one.

    Raises:
        InvalidParameter: the two don't go together, or the settings can't be.
    """
    if host.network_mode.startswith("container:"):
        raise InvalidParameter(_SHARED)
    if network.driver == "host" and host.network_mode != HOST:
        raise InvalidParameter("cannot connect container to host network - container must be created in host network mode")
    if network.config_only:
        raise InvalidParameter(f"configuration only network {network.name} can not be connected to")
    validate_endpoint(settings, network)
    found = {**endpoints_of(host, networking), network.name: settings}
    _check_together(list(found))
    return NetworkingConfig(endpoints_config=dict(found))


def without_endpoint(host: HostConfig, networking: NetworkingConfig | None, name: str, container: str) -> NetworkingConfig:
    """A container's networks without one of them.

    Raises:
        Conflict: it isn't on it, or can't be without it.
    """
    found = endpoints_of(host, networking)
    if name not in found:
        raise Conflict(f"container {container} is not connected to the network {name}")
    if name == HOST:
        raise InvalidParameter("cannot disconnect container from host network - container was created in host network mode")
    del found[name]
    return NetworkingConfig(endpoints_config=dict(found))


def dns_names(name: str, container_id: str, config: ContainerConfig, settings: EndpointSettings) -> list[str]:
    """What a container is called on a network; the first is what reverse lookups tell."""
    names = [name, *(settings.aliases or ()), container_id[:12], config.hostname]
    return list(dict.fromkeys(item for item in names if item))
