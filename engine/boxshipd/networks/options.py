"""Drivers' options: which there are, and whether their values can be.

Nothing that isn't known is taken: an option without effect would be a promise that isn't kept.
Source: moby libnetwork/netlabel, drivers/bridge, drivers/macvlan, drivers/ipvlan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import get_args

from boxrun.network.contract import GatewayMode
from boxship.booleans import TRUE, parse_boolean

from boxshipd.errors import InvalidParameter

_BRIDGE = "com.docker.network.bridge."
NAME = f"{_BRIDGE}name"
ICC = f"{_BRIDGE}enable_icc"
MASQUERADE = f"{_BRIDGE}enable_ip_masquerade"
HOST_BINDING = f"{_BRIDGE}host_binding_ipv4"
INHIBIT = f"{_BRIDGE}inhibit_ipv4"
GATEWAY_MODE_4 = f"{_BRIDGE}gateway_mode_ipv4"
GATEWAY_MODE_6 = f"{_BRIDGE}gateway_mode_ipv6"
TRUSTED = f"{_BRIDGE}trusted_host_interfaces"
DEFAULT = f"{_BRIDGE}default_bridge"
MTU = "com.docker.network.driver.mtu"
HOST_IPV4 = "com.docker.network.host_ipv4"
HOST_IPV6 = "com.docker.network.host_ipv6"
PREFIX = "com.docker.network.container_iface_prefix"
ENABLE_4 = "com.docker.network.enable_ipv4"
ENABLE_6 = "com.docker.network.enable_ipv6"
PARENT = "parent"
IPVLAN_FLAG = "ipvlan_flag"
ENDPOINT_IFNAME = "com.docker.network.endpoint.ifname"
ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"

GATEWAY_MODES = get_args(GatewayMode)
_GENERAL = frozenset({MTU, ENABLE_4, ENABLE_6, PREFIX})
KNOWN: Mapping[str, frozenset[str]] = {
    "bridge": _GENERAL
    | {NAME, ICC, MASQUERADE, HOST_BINDING, INHIBIT, GATEWAY_MODE_4, GATEWAY_MODE_6, TRUSTED, DEFAULT, HOST_IPV4, HOST_IPV6},
    "macvlan": _GENERAL | {PARENT, "macvlan_mode"},
    "ipvlan": _GENERAL | {PARENT, "ipvlan_mode", IPVLAN_FLAG},
}
MODES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "macvlan": ("macvlan_mode", ("bridge", "private", "vepa", "passthru")),
    "ipvlan": ("ipvlan_mode", ("l2", "l3", "l3s")),
}
"""The option with the driver's mode, and what it may be; the first is the default."""
_INTERFACE = re.compile(r"[^\s/:%]{1,15}")
_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.[^.]+\.(IFNAME|ifname)\.[^=]+=.+")
_SMALLEST_MTU = 68
"""Bytes: RFC 791's smallest."""


def validate(driver: str, options: Mapping[str, str]) -> None:
    """Check a network's options.

    Raises:
        InvalidParameter: one is unknown, or its value can't be.
    """
    for name, value in options.items():
        if name not in KNOWN[driver]:
            raise InvalidParameter(f'invalid option "{name}": the {driver} driver has no such option')
        if name in {ICC, MASQUERADE, INHIBIT, ENABLE_4, ENABLE_6, DEFAULT}:
            truth(name, value)
    if DEFAULT in options:
        raise InvalidParameter(f'invalid option "{DEFAULT}": there is one default bridge already')
    if NAME in options and not valid_interface(options[NAME]):
        raise InvalidParameter(f'invalid bridge name "{options[NAME]}"')
    if PREFIX in options and not valid_interface(f"{options[PREFIX]}0"):
        raise InvalidParameter(f'invalid interface prefix "{options[PREFIX]}"')
    for name in (HOST_BINDING, HOST_IPV4, HOST_IPV6):
        _address(name, options.get(name, ""), 6 if name == HOST_IPV6 else 4)
    for name in (GATEWAY_MODE_4, GATEWAY_MODE_6):
        if options.get(name, "nat") not in GATEWAY_MODES:
            raise InvalidParameter(f'unknown gateway mode {options[name]} in option "{name}"')
    mtu(options)
    if driver in MODES:
        mode, allowed = MODES[driver]
        if options.get(mode, allowed[0]) not in allowed:
            raise InvalidParameter(
                f"requested {driver} mode '{options[mode]}' is not valid, '{allowed[0]}' mode is the default"
            )
    if options.get(IPVLAN_FLAG, "bridge") not in {"bridge", "private", "vepa"}:
        raise InvalidParameter(f"unknown ipvlan flag '{options[IPVLAN_FLAG]}'")


def truth(name: str, text: str) -> bool:
    """A truth value in Go's notation.

    Raises:
        InvalidParameter: it is none.
    """
    said = parse_boolean(text)
    if said is None:
        raise InvalidParameter(f'driver-opt "{name}" is not a valid bool')
    return said


def flag(options: Mapping[str, str], name: str, default: bool) -> bool:
    """The value of an option that was validated."""
    return options[name] in TRUE if options.get(name) else default


def mtu(options: Mapping[str, str], default: int = 0) -> int:
    """The MTU; 0 for the kernel's own.

    Raises:
        InvalidParameter: it can't be one.
    """
    text = options.get(MTU, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or (int(text) and not _SMALLEST_MTU <= int(text) <= 65535):
        raise InvalidParameter(f"invalid MTU: {text}")
    return int(text)


def valid_interface(name: str) -> bool:
    """Whether the kernel takes it as an interface's name."""
    return name not in {".", ".."} and _INTERFACE.fullmatch(name) is not None


def validate_endpoint(options: Mapping[str, str]) -> list[str]:
    """What is wrong with an endpoint's driver options, each in one line."""
    errors = []
    for name, value in options.items():
        if name == ENDPOINT_IFNAME:
            if not valid_interface(value):
                errors.append(f"invalid interface name '{value}'")
        elif name == ENDPOINT_SYSCTLS:
            errors += [
                f"unrecognised network interface sysctl '{item}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', "
                "'X' must be 'ipv4', 'ipv6' or 'mpls'"
                for item in value.split(",")
                if not _SYSCTL.fullmatch(item)
            ]
        else:
            errors.append(f"unknown endpoint option '{name}'")
    return errors


def _address(name: str, text: str, version: int) -> None:
    if not text:
        return
    try:
        fits = ip_address(text).version == version
    except ValueError:
        fits = False
    if not fits:
        raise InvalidParameter(f'invalid option "{name}": {text} is not an IPv{version} address')
