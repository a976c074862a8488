"""``hosts.toml``: containerd's description of where a registry's content may be had.

Source: containerd docs/hosts.md; core/remotes/docker/config/hosts.go.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct
from yarl import URL

from boxshipd.registry.errors import RegistryError

NAME = "hosts.toml"
_CAPABILITIES = frozenset({"pull", "resolve", "push"})


class Host(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host of a file.

    Attributes:
        url: where it is; filled in from the table's name.
        capabilities: what it may be asked for.
        ca: CAs to trust it by, as paths.
        skip_verify: whether it needn't show who it is.
        override_path: whether the URL's path already is the API's root, so that no ``/v2`` is to be added.
        header: headers it is sent.
    """

    url: str = ""
    capabilities: tuple[str, ...] = ("pull", "resolve", "push")
    ca: tuple[str, ...] = ()
    skip_verify: bool = False
    override_path: bool = False
    header: dict[str, tuple[str, ...]] = {}


class HostsFile(Struct, frozen=True):
    """A whole file: the hosts in the order to be tried, and the registry's own server where another is named."""

    hosts: tuple[Host, ...]
    server: Host | None


def read(directories: Sequence[str], domain: str) -> HostsFile | None:
    """The file for a registry: ``<directory>/<domain>/hosts.toml``, or the one of ``_default``.

    Raises:
        RegistryError: it can't be read or says what isn't understood; nothing of it is ignored.
    """
    for name in (domain, "_default"):
        for directory in directories:
            path = os.path.join(directory, name, NAME)
            try:
                with open(path, "rb") as file:
                    return _parse(tomllib.load(file), os.path.dirname(path))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, ValueError, msgspec.ValidationError) as error:
                raise RegistryError(f"{path} can't be used: {error}") from error
    return None


def _parse(document: dict[str, Any], directory: str) -> HostsFile:
    document = dict(document)
    tables = document.pop("host", {})
    server = str(document.pop("server", ""))
    if not isinstance(tables, dict):
        raise ValueError("host isn't a table of tables")
    hosts = tuple(_host(url, table, directory) for url, table in tables.items())
    # What is left at the top describes the server itself.
    return HostsFile(hosts, _host(server, document, directory) if server else None)


def _host(url: str, table: object, directory: str) -> Host:
    if not isinstance(table, dict):
        raise ValueError(f"host {url!r} isn't a table")
    values = dict(table)
    if isinstance(values.get("ca"), str):
        values["ca"] = [values["ca"]]
    headers = values.get("header", {})
    if isinstance(headers, dict):
        values["header"] = {name: [value] if isinstance(value, str) else value for name, value in headers.items()}
    host = msgspec.convert(values, Host)
    if unknown := set(host.capabilities) - _CAPABILITIES:
        raise ValueError(f"host {url!r} has unknown capabilities: {', '.join(sorted(unknown))}")
    address = URL(url if "://" in url else f"https://{url}")
    if address.scheme not in ("http", "https") or not address.host or address.user or address.query_string or address.fragment:
        raise ValueError(f"{url!r} isn't the address of a host")
    ca = tuple(os.path.join(directory, path) for path in host.ca)
    return msgspec.structs.replace(host, url=str(address), ca=ca)
