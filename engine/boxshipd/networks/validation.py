"""Checks of what clients say of networks and endpoints; the messages are Docker's.

Source: moby api/types/network (ValidateIPAM), daemon/container_operations.go (validateEndpointSettings).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_interface

from boxship.types import networks as api
from msgspec import UNSET

from boxshipd.errors import InvalidParameter
from boxshipd.networks import options
from boxshipd.networks.ipam import parse_address
from boxshipd.networks.model import Network

_MAC = re.compile(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}")


def joined(errors: Iterable[str]) -> str:
    """Errors in one text, as Docker's multierror writes them."""
    lines = list(errors)
    if len(lines) == 1:
        return lines[0]
    return "* " + "\n* ".join(line.replace("\n", "\n\t") for line in lines)


def validate_ipam(ipam: api.IPAM | None, *, ipv6: bool) -> None:
    """Check a network's subnets.

    Raises:
        InvalidParameter: with everything that is wrong.
    """
    errors: list[str] = []
    for config in (ipam.config if ipam is not None else None) or ():
        errors += _subnet_errors(config, ipv6=ipv6)
    if errors:
        raise InvalidParameter(f"invalid network config:\n{joined(errors)}")


def _subnet_errors(config: api.IPAMConfig, *, ipv6: bool) -> list[str]:
    text = config.subnet if isinstance(config.subnet, str) else ""
    try:
        interface = ip_interface(text) if "/" in text else None
    except ValueError:
        interface = None
    if interface is None:
        return [f"invalid subnet {text}: invalid CIDR block notation"]
    subnet = interface.network
    if subnet.version == 6 and not ipv6:
        return []
    errors = []
    if interface.ip != subnet.network_address:
        errors.append(f"invalid subnet {text}: it should be {subnet}")
    if isinstance(config.ip_range, str) and config.ip_range:
        errors += _range_errors(config.ip_range, text)
    if isinstance(config.gateway, str) and (problem := _address_error(config.gateway, text)):
        errors.append(f"invalid gateway {config.gateway}: {problem}")
    for name, address in (config.aux_addresses or {}).items() if config.aux_addresses is not UNSET else ():
        if problem := _address_error(address, text):
            errors.append(f"invalid auxiliary address {name}: {problem}")
    return errors


def _range_errors(text: str, parent: str) -> list[str]:
    try:
        interface = ip_interface(text) if "/" in text else None
    except ValueError:
        interface = None
    if interface is None:
        return [f"invalid ip-range {text}: invalid CIDR block notation"]
    subnet, given = ip_interface(parent).network, interface.network
    if subnet.version != given.version:
        return [f"invalid ip-range {text}: parent subnet is an IPv{subnet.version} block"]
    errors = []
    if given.prefixlen < subnet.prefixlen:
        errors.append(f"invalid ip-range {text}: CIDR block is bigger than its parent subnet {parent}")
    if interface.ip != given.network_address:
        errors.append(f"invalid ip-range {text}: it should be {given}")
    if not subnet.overlaps(given):
        errors.append(f"invalid ip-range {text}: parent subnet {parent} doesn't contain ip-range")
    return errors


def _address_error(text: str, parent: str) -> str:
    if not text:
        return ""
    try:
        address = ip_address(text)
    except ValueError:
        return "invalid address"
    subnet = ip_interface(parent).network
    if address.version != subnet.version:
        return f"parent subnet is an IPv{subnet.version} block"
    return "" if address in subnet else f"parent subnet {parent} doesn't contain this address"


def endpoint_errors(endpoint: api.EndpointSettings, network: Network) -> list[str]:
    """What is wrong with a container's settings for a network, each in one line."""
    errors: list[str] = []
    ipam = endpoint.ipam_config or api.EndpointIPAMConfig()
    ipv4 = ipam.ipv4_address if isinstance(ipam.ipv4_address, str) else ""
    ipv6 = ipam.ipv6_address if isinstance(ipam.ipv6_address, str) else ""
    if network.predefined:
        if ipv4 or ipv6:
            errors.append("user specified IP address is supported on user defined networks only")
        if endpoint.aliases:
            errors.append("network-scoped alias is supported only for containers in user defined networks")
    for version, text in ((4, ipv4), (6, ipv6)):
        if not text:
            continue
        address = parse_address(text, version)
        if address is None or address.is_unspecified:
            errors.append(f"invalid IPv{version} address: {text}")
        elif not network.predefined and (problem := _placed(network, version, text)):
            errors.append(problem)
    links = ipam.link_local_ips if isinstance(ipam.link_local_ips, list) else []
    errors += [f"invalid link-local IP address: {text}" for text in links if not _specified(text)]
    if endpoint.mac_address and not _MAC.fullmatch(endpoint.mac_address):
        errors.append(f"invalid MAC address {endpoint.mac_address}")
    return errors + options.validate_endpoint(endpoint.driver_opts or {})


def _specified(text: str) -> bool:
    """Whether it is an address of one of the families, and of something."""
    return any((address := parse_address(text, version)) and not address.is_unspecified for version in (4, 6))


def validate_endpoint(endpoint: api.EndpointSettings | None, network: Network) -> None:
    """Check a container's settings for a network.

    Raises:
        InvalidParameter: with everything that is wrong.
    """
    errors = endpoint_errors(endpoint, network) if endpoint is not None else []
    if errors:
        raise InvalidParameter(f"invalid config for network {network.name}: invalid endpoint settings:\n{joined(errors)}")


def _placed(network: Network, version: int, text: str) -> str:
    """Whether an address may be asked for: it has to be of a subnet that somebody chose."""
    chosen = [subnet for subnet in network.subnets if subnet.version == version and subnet.configured]
    if not chosen:
        return "user specified IP address is supported only when connecting to networks with user configured subnets"
    if any(ip_address(text) in subnet.network for subnet in chosen):
        return ""
    return f"no configured subnet or ip-range contain the IP address {text}"


def valid_mac(text: str) -> bool:
    """Whether it is a MAC address."""
    return _MAC.fullmatch(text) is not None
