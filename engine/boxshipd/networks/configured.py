"""The daemon's options about networks: reading them off a command line, and whether they can be.

Source: dockerd's ``opts`` (address pools, default network options) and ``daemon/config/config_linux.go``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network

from boxshipd.errors import InvalidParameter
from boxshipd.networks import options
from boxshipd.networks.pools import AddressPool, validate_pools
from boxshipd.networks.settings import NetworkSettings


def parse_pool(text: str) -> AddressPool:
    """``base=10.0.0.0/8,size=24``.

    Raises:
        InvalidParameter: it isn't that.
    """
    fields = dict(item.partition("=")[::2] for item in text.split(","))
    if fields.keys() != {"base", "size"} or not fields["size"].isdigit():
        raise InvalidParameter(f"{text} must be base=CIDR,size=LENGTH")
    return AddressPool(fields["base"], int(fields["size"]))


def parse_network_option(items: Iterable[str]) -> dict[str, dict[str, str]]:
    """``driver=option=value``, each given once or more.

    Raises:
        InvalidParameter: one isn't that.
    """
    found: dict[str, dict[str, str]] = {}
    for item in items:
        driver, _, rest = item.partition("=")
        name, equals, value = rest.partition("=")
        if not driver or not name or not equals:
            raise InvalidParameter("must be formatted as driver=option=value")
        found.setdefault(driver, {})[name] = value
    return found


def check_networks(config: NetworkSettings) -> None:
    """Check everything that can be checked without the machine.

    Raises:
        InvalidParameter: something can't be.
    """
    if config.bridge and config.bridge != "none" and not options.valid_interface(config.bridge):
        raise InvalidParameter(f"invalid bridge name: {config.bridge}")
    interfaces = {"bip": (config.bip, 4), "bip6": (config.bip6, 6)}
    for name, (text, version) in interfaces.items():
        if text and ("/" not in text or not _is(text, version, ip_interface)):
            raise InvalidParameter(f"invalid {name} {text}: it must be an IPv{version} address with a prefix length")
    for name, (text, version) in {"fixed-cidr": (config.fixed_cidr, 4), "fixed-cidr-v6": (config.fixed_cidr_v6, 6)}.items():
        if text and not _is(text, version, ip_network):
            raise InvalidParameter(f"invalid {name} {text}: it must be an IPv{version} subnet")
    gateways = {"default-gateway": (config.default_gateway, 4), "default-gateway-v6": (config.default_gateway_v6, 6)}
    for name, (text, version) in {**gateways, "ip": (config.ip, 4)}.items():
        if text and not _is(text, version, ip_address):
            raise InvalidParameter(f"invalid {name} {text}: it must be an IPv{version} address")
    for text in config.host_gateway_ips:
        if not _is(text, 4, ip_address) and not _is(text, 6, ip_address):
            raise InvalidParameter(f"invalid host-gateway-ip {text}")
    validate_pools(config.default_address_pools)
    options.mtu({options.MTU: str(config.mtu)})
    _check_options(config.default_network_opts)


def _check_options(given: Mapping[str, Mapping[str, str]]) -> None:
    for driver, values in given.items():
        if driver not in options.KNOWN:
            raise InvalidParameter(f"default-network-opts: unknown network driver {driver}")
        options.validate(driver, values)


def _is(text: str, version: int, parse: object) -> bool:
    try:
        return bool(callable(parse) and parse(text).version == version)
    except ValueError:
        return False
