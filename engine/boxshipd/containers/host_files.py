"""The files a container gets from its host: ``/etc/hostname``, ``/etc/hosts`` and ``/etc/resolv.conf``.

Each is a file in the container's directory, bind-mounted, as Docker does it. Source: moby libnetwork/etchosts, resolvconf.
"""

from __future__ import annotations

import ipaddress
import os

from boxship.types.host import HostConfig

from boxshipd.containers.settings import Settings

TARGETS = {"resolv.conf": "/etc/resolv.conf", "hostname": "/etc/hostname", "hosts": "/etc/hosts"}
"""From a file's name in the container's directory to its place in the container."""

LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def write_files(directory: str, *, hostname: str, host: HostConfig, settings: Settings) -> None:
    """Make the three files in ``directory``.

    Raises:
        OSError: one couldn't be written.
    """
    write_file(f"{directory}/hostname", f"{hostname}\n")
    write_file(f"{directory}/hosts", _hosts(hostname, host))
    write_file(f"{directory}/resolv.conf", _resolv_conf(host, settings))


def write_file(path: str, text: str) -> None:
    """Give a file this text, in place.

    Raises:
        OSError: it couldn't be written.
    """
    data = text.encode(errors="surrogateescape")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, data)
        # Cut off behind, for ext4 writes a file to disk at once that was emptied before.
        os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def _hosts(hostname: str, host: HostConfig) -> str:
    if host.network_mode == "host":
        base = _read("/etc/hosts") or LOCALHOST
    else:
        base = LOCALHOST + (f"127.0.1.1\t{hostname}\n" if host.network_mode != "none" else "")
    extra = []
    for entry in host.extra_hosts or ():
        name, _, address = entry.replace("=", ":", 1).partition(":")
        extra.append(f"{address.strip('[]')}\t{name}\n")
    return base + "".join(extra)


def _resolv_conf(host: HostConfig, settings: Settings) -> str:
    """The host's file, with what the container or the daemon sets in its place."""
    servers = tuple(host.dns or ()) or settings.dns
    search = tuple(host.dns_search or ()) or settings.dns_search
    options = tuple(host.dns_options or ()) or settings.dns_options
    text = _read("/etc/resolv.conf")
    if not (servers or search or options):
        return text if host.network_mode == "host" else _without_loopback(text)
    kept = []
    for line in text.splitlines():
        words = line.split()
        replaced = (
            not words
            or (words[0] == "nameserver" and (servers or (host.network_mode != "host" and _loopback(words))))
            or (words[0] in {"search", "domain"} and search)
            or (words[0] == "options" and options)
        )
        if not replaced:
            kept.append(line)
    kept += [f"nameserver {server}" for server in servers]
    if search and search != (".",):
        kept.append("search " + " ".join(search))
    if options:
        kept.append("options " + " ".join(options))
    return "\n".join(kept) + "\n"


def _without_loopback(text: str) -> str:
    """A name server on the host's loopback can't be reached from another network namespace."""
    return "".join(line for line in text.splitlines(keepends=True) if not _loopback(line.split()))


def _loopback(words: list[str]) -> bool:
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return False


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
