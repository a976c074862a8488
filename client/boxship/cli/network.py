"""``boxship network``: create, ls, inspect, connect, disconnect, rm and prune."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_network
from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_HELP, FORMAT_ONE_HELP, check_filter, encode_filters
from boxship.cli.flags import Absent, Integer, Items, Options, Switch, Text
from boxship.errors import APIError, CommandError, InvalidValue, NotFound
from boxship.http.target import quote
from boxship.terminal.table import render

TITLES = {
    "CreatedAt": "CREATED AT",
    "Driver": "DRIVER",
    "ID": "NETWORK ID",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "Name": "NAME",
    "Scope": "SCOPE",
}
_SWARM = "it has no Swarm, whose networks these are"


def _label(text: str) -> str:
    if not text.partition("=")[0]:
        raise InvalidValue(f"invalid label '{text}': empty name")
    return text


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        raise InvalidValue(f"{text} is not an ip address") from None
    return text


class CreateNetworkOptions(Options):
    """The flags of ``network create``."""

    attachable = Switch("Enable manual container attachment")
    aux_address = Items("Auxiliary IPv4 or IPv6 addresses used by Network driver", kind="map")
    config_from = Text("The network from which to copy the configuration")
    config_only = Switch("Create a configuration only network")
    driver = Text("Driver to manage the Network", default="bridge", short="d", shown='"bridge"')
    gateway = Items("IPv4 or IPv6 Gateway for the master subnet", kind="ipSlice", check=_address)
    ingress = Absent("Create swarm routing-mesh network", _SWARM, kind="")
    internal = Switch("Restrict external access to the network")
    ip_range = Items("Allocate container ip from a sub-range", kind="strings")
    ipam_driver = Text("IP Address Management Driver", default="default", shown='"default"')
    ipam_opt = Items("Set IPAM driver specific options", kind="map")
    ipv4 = Switch("Enable or disable IPv4 address assignment", default=True, shown="true")
    ipv6 = Switch("Enable or disable IPv6 address assignment")
    label = Items("Set metadata on a network", check=_label)
    opt = Items("Set driver specific options", short="o", kind="map")
    scope = Text("Control the network's scope")
    subnet = Items("Subnet in CIDR format that represents a network segment", kind="strings")


class ListNetworksOptions(Options):
    """The flags of ``network ls``."""

    filter = Items('Provide filter values (e.g. "driver=bridge")', short="f", check=check_filter, kind="filter")
    format = Text(FORMAT_HELP)
    no_trunc = Switch("Do not truncate the output")
    quiet = Switch("Only display network IDs", short="q")


class InspectNetworksOptions(Options):
    """The flags of ``network inspect``."""

    format = Text(FORMAT_ONE_HELP, short="f")
    verbose = Switch("Verbose output for diagnostics", short="v")


class ConnectOptions(Options):
    """The flags of ``network connect``."""

    alias = Items("Add network-scoped alias for the container", kind="strings")
    driver_opt = Items("driver options for the network", kind="strings")
    gw_priority = Integer("Highest gw-priority provides the default gateway. Accepts positive and negative values")
    ip = Text('IPv4 address (e.g., "172.30.100.104")', kind="ip")
    ip6 = Text('IPv6 address (e.g., "2001:db8::33")', kind="ip")
    link = Items("Add link to another container")
    link_local_ip = Items("Add a link-local address for the container", kind="ipSlice", check=_address)


class DisconnectOptions(Options):
    """The flags of ``network disconnect``."""

    force = Switch("Force the container to disconnect from a network", short="f")


class RemoveNetworksOptions(Options):
    """The flags of ``network rm``."""

    force = Switch("Do not error if the network does not exist", short="f")


class PruneNetworksOptions(Options):
    """The flags of ``network prune``."""

    filter = Items('Provide filter values (e.g. "until=<timestamp>")', check=check_filter, kind="filter")
    force = Switch("Do not prompt for confirmation", short="f")


def _pairs(items: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _separate(items: tuple[str, ...]) -> list[str]:
    return [part for item in items for part in item.split(",") if part]


def subnets(options: CreateNetworkOptions) -> list[dict[str, Any]]:
    """The configuration of addresses, each range, gateway and auxiliary address with the subnet that it lies in.

    Args:
        options: the flags.

    Raises:
        CommandError: they don't go together.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in _separate(options.subnet):
        network = _network(text, "subnet")
        if any(network.version == other.version and network.overlaps(other) for other in map(ip_network, found)):
            raise CommandError("multiple overlapping subnet configuration is not supported")
        found[str(network)] = {"Subnet": text}
    ranges, gateways = _separate(options.ip_range), _separate(options.gateway)
    if not found and (ranges or gateways or options.aux_address):
        raise CommandError("every ip-range or gateway must have a corresponding subnet")
    for text in ranges:
        entry = _around(found, str(_network(text, "ip-range").network_address), f"no matching subnet for range {text}")
        if "IPRange" in entry:
            raise CommandError("cannot configure multiple ranges on the same subnet")
        entry["IPRange"] = text
    for text in gateways:
        entry = _around(found, text, f"no matching subnet for gateway {text}")
        if "Gateway" in entry:
            raise CommandError("cannot configure multiple gateways for the same subnet")
        entry["Gateway"] = text
    for name, address in _pairs(options.aux_address).items():
        entry = _around(found, address, f"no matching subnet for aux-address {address}")
        entry.setdefault("AuxiliaryAddresses", {})[name] = address
    return list(found.values())


def _network(text: str, what: str) -> Any:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise CommandError(f"invalid {what} {text}: invalid CIDR block notation") from None


def _around(found: dict[str, dict[str, Any]], address: str, message: str) -> dict[str, Any]:
    try:
        parsed = ip_address(address)
    except ValueError:
        raise CommandError(f"invalid address {address}") from None
    for pool, entry in found.items():
        if parsed in ip_network(pool):
            return entry
    raise CommandError(message)


def _create(context: Context, options: CreateNetworkOptions, arguments: list[str]) -> int:
    body: dict[str, Any] = {
        "Name": arguments[0],
        "Driver": options.driver,
        "Scope": options.scope,
        "Internal": options.internal,
        "Attachable": options.attachable,
        "ConfigOnly": options.config_only,
        "IPAM": {"Driver": options.ipam_driver, "Options": _pairs(options.ipam_opt), "Config": subnets(options)},
        "Options": _pairs(options.opt),
        "Labels": _pairs(options.label),
    }
    if options.config_from:
        body["ConfigFrom"] = {"Network": options.config_from}
    if options.given("ipv4"):
        body["EnableIPv4"] = options.ipv4
    if options.given("ipv6"):
        body["EnableIPv6"] = options.ipv6
    answer = context.api.call("POST", "/networks/create", None, body)
    if answer.get("Warning"):
        context.warn(f"WARNING: {answer['Warning']}")
    context.print(answer["Id"])
    return 0


def _row(network: dict[str, Any], *, truncate: bool) -> dict[str, Any]:
    labels: dict[str, str] = network.get("Labels") or {}
    return {
        "CreatedAt": network["Created"],
        "Driver": network["Driver"],
        "ID": network["Id"][:12] if truncate else network["Id"],
        "IPv4": str(network.get("EnableIPv4", True)).lower(),
        "IPv6": str(network["EnableIPv6"]).lower(),
        "Internal": str(network["Internal"]).lower(),
        "Labels": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        "Name": network["Name"],
        "Scope": network["Scope"],
        "Label": lambda name: labels.get(name, ""),
    }


def _list(context: Context, options: ListNetworksOptions, _arguments: list[str]) -> int:
    answer = context.api.call("GET", "/networks", {"filters": encode_filters(options.filter)})
    networks = sorted(answer, key=lambda network: network["Name"])
    rows = [_row(network, truncate=not options.no_trunc) for network in networks]
    if options.quiet and not options.format:
        context.print("".join(f"{row['ID']}\n" for row in rows), end="")
        return 0
    context.print(render(options.format, rows, TITLES, "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"), end="")
    return 0


def fetch(context: Context, name: str, *, verbose: bool = False) -> Any:
    """A network as the daemon describes it.

    Raises:
        NotFound: there is none of that name.
    """
    return context.api.call("GET", f"/networks/{quote(name)}", {"verbose": verbose or None})


def _inspect(context: Context, options: InspectNetworksOptions, arguments: list[str]) -> int:
    from boxship.cli.showing import show

    return show(context, options.format, arguments, lambda name: fetch(context, name, verbose=options.verbose))


def _connect(context: Context, options: ConnectOptions, arguments: list[str]) -> int:
    network, container = arguments
    ipam = {
        "IPv4Address": options.ip or None,
        "IPv6Address": options.ip6 or None,
        "LinkLocalIPs": _separate(options.link_local_ip) or None,
    }
    driver = _separate(options.driver_opt)
    if any("=" not in item for item in driver):
        raise CommandError("invalid key=value format in driver options")
    endpoint = {
        "IPAMConfig": {name: value for name, value in ipam.items() if value} or None,
        "Links": list(options.link) or None,
        "Aliases": _separate(options.alias) or None,
        "DriverOpts": _pairs(tuple(driver)) or None,
        "GwPriority": options.gw_priority,
    }
    body = {"Container": container, "EndpointConfig": endpoint}
    context.api.call("POST", f"/networks/{quote(network)}/connect", None, body)
    return 0


def _disconnect(context: Context, options: DisconnectOptions, arguments: list[str]) -> int:
    network, container = arguments
    body = {"Container": container, "Force": options.force}
    context.api.call("POST", f"/networks/{quote(network)}/disconnect", None, body)
    return 0


def _remove(context: Context, options: RemoveNetworksOptions, arguments: list[str]) -> int:
    failed = False
    for name in arguments:
        try:
            context.api.call("DELETE", f"/networks/{quote(name)}")
            context.print(name)
        except NotFound as error:
            if not options.force:
                failed = True
                context.warn(f"Error response from daemon: {error}")
        except APIError as error:
            failed = True
            context.warn(f"Error response from daemon: {error}")
    return int(failed)


def prune(context: Context, filters: tuple[str, ...]) -> str:
    """Remove unused networks; what to print of it."""
    answer = context.api.call("POST", "/networks/prune", {"filters": encode_filters(filters)})
    deleted = answer.get("NetworksDeleted") or []
    return "Deleted Networks:\n" + "".join(f"{name}\n" for name in deleted) if deleted else ""


def _prune(context: Context, options: PruneNetworksOptions, _arguments: list[str]) -> int:
    if not options.force:
        warning = "WARNING! This will remove all custom networks not used by at least one container."
        sys.stdout.write(f"{warning}\nAre you sure you want to continue? [y/N] ")
        sys.stdout.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            return 0
    text = prune(context, options.filter)
    if text:
        context.print(text)
    return 0


CREATE: Command[CreateNetworkOptions] = Command(
    "[OPTIONS] NETWORK", "Create a network", CreateNetworkOptions, _create, minimum=1, maximum=1
)
LIST: Command[ListNetworksOptions] = Command("[OPTIONS]", "List networks", ListNetworksOptions, _list, maximum=0)
INSPECT: Command[InspectNetworksOptions] = Command(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    InspectNetworksOptions,
    _inspect,
    minimum=1,
)
CONNECT: Command[ConnectOptions] = Command(
    "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", ConnectOptions, _connect, minimum=2, maximum=2
)
DISCONNECT: Command[DisconnectOptions] = Command(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    DisconnectOptions,
    _disconnect,
    minimum=2,
    maximum=2,
)
REMOVE: Command[RemoveNetworksOptions] = Command(
    "[OPTIONS] NETWORK [NETWORK...]", "Remove one or more networks", RemoveNetworksOptions, _remove, minimum=1
)
PRUNE: Command[PruneNetworksOptions] = Command(
    "[OPTIONS]", "Remove all unused networks", PruneNetworksOptions, _prune, maximum=0
)
