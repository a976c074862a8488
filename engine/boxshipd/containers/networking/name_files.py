"""A container's ``/etc/hosts`` and ``/etc/resolv.conf`` where it is on networks.

Made anew for each start, and kept up while it runs.

Source: moby libnetwork/sandbox_dns_unix.go, internal/resolvconf, etchosts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from msgspec import Struct

from boxshipd.containers.host_files import LOCALHOST, write_file
from boxshipd.containers.settings import Settings
from boxshipd.networks.model import Lease

EMBEDDED = "127.0.0.11"
"""Where the server for networks' names is, in every container that has one."""
_STUB = "127.0.0.53"
_HOST_FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")
"""The second has the real servers where the first only names systemd's resolver."""
_LARGEST = 1 << 20


class HostResolver(Struct, frozen=True):
    """What the host's resolv.conf says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def host_resolver(paths: Sequence[str] = _HOST_FILES) -> HostResolver:
    """Read the host's configuration. A stub's servers are replaced by those behind it, where they are known."""
    found = _parse(paths[0])
    if found.servers == (_STUB,):
        behind = _parse(paths[1])
        if behind.servers:
            return HostResolver(behind.servers, found.search, found.options)
    return found


def _parse(path: str) -> HostResolver:
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return HostResolver()
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in {"search", "domain"}:
            search = tuple(words[1:])
        elif words[0] == "options":
            options += words[1:]
    return HostResolver(tuple(servers), search, tuple(options))


def reachable(servers: Iterable[str]) -> tuple[str, ...]:
    """Those that a container can ask itself: none on the host's loopback."""
    return tuple(server for server in servers if not _loopback(server))


def _loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True


def resolver_of(host: HostConfig, settings: Settings, known: HostResolver) -> HostResolver:
    """A container's own configuration, before the daemon's, before the host's."""
    search = tuple(host.dns_search or ()) or settings.dns_search or known.search
    return HostResolver(
        servers=tuple(host.dns or ()) or settings.dns or known.servers,
        search=() if search == (".",) else search,
        options=tuple(host.dns_options or ()) or settings.dns_options or known.options,
    )


def resolv_conf(wanted: HostResolver, *, embedded: bool) -> str:
    """The file's text; with the embedded server every name goes there first, however few dots it has."""
    options = list(wanted.options)
    servers: Sequence[str] = wanted.servers
    if embedded:
        servers = [EMBEDDED]
        if not any(option.startswith("ndots:") for option in options):
            options.append("ndots:0")
    lines = [f"nameserver {server}" for server in servers]
    if wanted.search:
        lines.append("search " + " ".join(wanted.search))
    if options:
        lines.append("options " + " ".join(options))
    return "\n".join(lines) + "\n"


def own_lines(config: ContainerConfig, leases: Iterable[Lease], links: Iterable[tuple[str, Sequence[str]]] = ()) -> list[str]:
    """The lines of /etc/hosts that follow from networks: the container's own name at each address, and links.

    Args:
        config: the container's.
        leases: what it holds.
        links: of the default bridge: an address, and what it is called.
    """
    full = f"{config.hostname}.{config.domainname}" if config.domainname else config.hostname
    bare, dot, _ = full.partition(".")
    names = f"{full} {bare}" if dot else full
    lines = [f"{address}\t{' '.join(called)}\n" for address, called in links]
    return lines + [f"{address}\t{names}\n" for lease in leases for address in lease.addresses]


def hosts(host: HostConfig, gateways: Sequence[str], own: Iterable[str]) -> str:
    """The text of /etc/hosts.

    Args:
        host: the container's.
        gateways: what ``host-gateway`` means.
        own: the lines that follow from its networks.
    """
    extra = []
    for entry in host.extra_hosts or ():
        name, _, address = entry.replace("=", ":", 1).partition(":")
        places = gateways if address == "host-gateway" else [address.strip("[]")]
        extra += [f"{place}\t{name}\n" for place in places]
    return LOCALHOST + "".join(extra) + "".join(own)


def write(directory: str, *, hosts_text: str, resolv_text: str) -> None:
    """Put both into a container's directory, in place: they are mounted.

    Raises:
        OSError: one couldn't be written.
    """
    write_file(f"{directory}/hosts", hosts_text)
    write_file(f"{directory}/resolv.conf", resolv_text)


def change_hosts(directory: str, gone: Iterable[str], come: Iterable[str], names: str = "") -> None:
    """Take lines out of a running container's /etc/hosts and add others, leaving what it has written itself.

    Args:
        directory: the container's.
        gone: lines to take out.
        come: lines to add.
        names: what follows the address in further lines to take out.

    Raises:
        OSError: it couldn't be read or written.
    """
    path = f"{directory}/hosts"
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        text = os.read(descriptor, _LARGEST).decode(errors="surrogateescape")
    finally:
        os.close(descriptor)
    doomed = set(gone)
    kept = [
        line for line in text.splitlines(keepends=True) if line not in doomed and not (names and line.endswith(f"\t{names}\n"))
    ]
    if kept and not kept[-1].endswith("\n"):
        kept.append("\n")
    write_file(path, "".join(kept) + "".join(come))
