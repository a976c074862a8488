"""Where a repository is to be had: the registry itself, its mirrors before it, in plain HTTP only where that is allowed.

Source: moby daemon/pkg/registry (service_v2.go, config.go): Docker Hub's host, mirrors, ``insecure-registries``; containerd
docs/hosts.md; the ``registries`` key is Boxship's own, with podman's meaning of prefix and location
(containers-registries.conf(5)).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct
from yarl import URL

from boxshipd.images.reference import DEFAULT_DOMAIN, Reference
from boxshipd.registry import hosts_file
from boxshipd.registry.errors import RegistryError
from boxshipd.registry.hosts_file import Host
from boxshipd.registry.proxies import masked

Purpose = Literal["pull", "push"]
HUB = "registry-1.docker.io"
CERTIFICATE_DIRECTORIES = ("/etc/boxship/certs.d", "/etc/docker/certs.d")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class RegistrySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``registries`` in daemon.json says of a registry, or of the repositories below a path prefix of it.

    Attributes:
        mirrors: addresses that are tried first, in order. What follows the prefix in a repository's name is looked for there.
        insecure: whether the registry itself may be reached in plain HTTP, or with a certificate nobody vouches for.
    """

    mirrors: tuple[str, ...] = ()
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where one repository is to be had.

    Attributes:
        root: the API's root, ``https://host/v2``.
        repository: the repository's name there.
        certificates: the host that certificates are kept for.
        verify: whether its certificate must be good.
        plain: whether HTTP without TLS may follow, where TLS isn't spoken.
        mirror: whether it is only a copy: clients' credentials aren't for it.
        namespace: the registry it stands in for, to be told with each request; empty where that isn't wanted.
        ca: further CAs to trust it by, as paths.
        headers: further headers to send.
        resolves: whether it may say what a tag means.
    """

    root: URL
    repository: str
    certificates: str
    verify: bool = True
    plain: bool = False
    mirror: bool = False
    namespace: str = ""
    ca: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    resolves: bool = True

    @property
    def origin(self) -> URL:
        """Scheme, host and port: what credentials are bound to."""
        return self.root.origin()


class Hosts:
    """The configuration of registries.

    Args:
        mirrors: of Docker Hub.
        insecure: hosts, hosts with ports and networks that needn't use TLS; loopback never has to.
        registries: settings by registry, or by registry and path prefix.
        directories: where ``hosts.toml`` is looked for.
    """

    def __init__(
        self,
        mirrors: Sequence[str] = (),
        insecure: Sequence[str] = (),
        registries: Mapping[str, RegistrySettings] | None = None,
        directories: Sequence[str] = CERTIFICATE_DIRECTORIES,
    ) -> None:
        self.directories = tuple(directories)
        self.configure(mirrors, insecure, registries or {})

    def configure(self, mirrors: Sequence[str], insecure: Sequence[str], registries: Mapping[str, RegistrySettings]) -> None:
        """Take over what may change while the daemon runs."""
        self.mirrors = tuple(mirrors)
        self._registries = dict(registries)
        self._insecure_hosts = frozenset(entry for entry in insecure if "/" not in entry)
        self.networks = (*_LOOPBACK, *(ipaddress.ip_network(entry, strict=False) for entry in insecure if "/" in entry))

    async def endpoints(self, name: Reference, purpose: Purpose) -> list[Endpoint]:
        """The places to ask for a repository, in order.

        Raises:
            RegistryError: the configuration can't be used.
        """
        prefix, settings = self._settings(name)
        insecure = await self.insecure(name.domain)
        found: list[Endpoint] = []
        if purpose == "pull":
            found += [await self._mirror(mirror, name, prefix) for mirror in settings.mirrors]
            if name.domain == DEFAULT_DOMAIN:
                found += [await self._hub_mirror(mirror, name) for mirror in self.mirrors]
        own: Endpoint | None = None
        described = await asyncio.to_thread(hosts_file.read, self.directories, name.domain)
        if described is not None:
            found += [_described(host, name) for host in described.hosts if _serves(host, purpose)]
            own = _described(described.server, name) if described.server is not None else None
        if own is None:
            host = HUB if name.domain == DEFAULT_DOMAIN else name.domain
            own = Endpoint(_root(URL(f"https://{host}")), name.path, host, verify=not insecure, plain=insecure)
        return [*found, own]

    async def insecure(self, host: str) -> bool:
        """Whether a host (with its port, if any) may be spoken to without TLS, or with TLS that proves nothing."""
        if host in self._insecure_hosts or (host in self._registries and self._registries[host].insecure):
            return True
        bare = URL(f"http://{host}").host or ""
        if bare in self._insecure_hosts:
            return True
        # All of a name's addresses: one more in a forged answer makes no registry an insecure one. A name all of whose
        # addresses are forged still is taken for what they say, as with Docker.
        addresses = await _addresses(bare)
        return bool(addresses) and all(any(address in network for network in self.networks) for address in addresses)

    def _settings(self, name: Reference) -> tuple[str, RegistrySettings]:
        """The settings with the longest prefix of a repository's name."""
        prefix = name.name
        while prefix:
            if prefix in self._registries:
                return prefix, self._registries[prefix]
            prefix = prefix.rpartition("/")[0]
        return name.domain, RegistrySettings()

    async def _mirror(self, address: str, name: Reference, prefix: str) -> Endpoint:
        """A mirror of ``registries``: its path takes the place of the prefix."""
        url = URL(address)
        rest = name.name.removeprefix(prefix).strip("/")
        repository = f"{url.path.strip('/')}/{rest}".strip("/")
        return await self._copy(url.origin(), repository)

    async def _hub_mirror(self, address: str, name: Reference) -> Endpoint:
        """A mirror of ``registry-mirrors``: its path comes before the API's root."""
        return await self._copy(URL(address), name.path)

    async def _copy(self, url: URL, repository: str) -> Endpoint:
        # Who writes http:// for a mirror means it, as with Docker.
        insecure = url.scheme == "http" or await self.insecure(url.authority)
        return Endpoint(_root(url), repository, url.authority, verify=not insecure, mirror=True)


def _described(host: Host, name: Reference) -> Endpoint:
    url = URL(host.url)
    own = url.authority in (name.domain, HUB if name.domain == DEFAULT_DOMAIN else name.domain)
    return Endpoint(
        root=url if host.override_path else _root(url),
        repository=name.path,
        certificates=url.authority,
        verify=not host.skip_verify,
        mirror=not own,
        namespace="" if own else name.domain,
        ca=host.ca,
        headers={key: ", ".join(values) for key, values in host.header.items()},
        resolves="resolve" in host.capabilities,
    )


def _serves(host: Host, purpose: Purpose) -> bool:
    return purpose in host.capabilities


def _root(url: URL) -> URL:
    return url.with_path(f"{url.path.rstrip('/')}/v2")


async def _addresses(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def check_mirror(text: str) -> None:
    """Refuse what can't be a mirror's address.

    Raises:
        RegistryError: with Docker's message.
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise RegistryError(f'invalid mirror: "{masked(text)}" is not a valid URI: {error}') from None
    if url.scheme not in ("http", "https"):
        raise RegistryError(
            f"invalid mirror: unsupported scheme \"{url.scheme}\" in \"{masked(text)}\": must use either 'https://' or 'http://'"
        )
    if url.query_string or url.fragment or not url.host:
        raise RegistryError(f'invalid mirror: query or fragment at end of the URI "{masked(text)}"')
    if url.user is not None:
        raise RegistryError(f'invalid mirror: username/password not allowed in URI "{url.with_user(None)}"')


def check_insecure(text: str) -> None:
    """Refuse what can't be an insecure registry.

    Raises:
        RegistryError: with Docker's message.
    """
    if "://" in text:
        raise RegistryError(f"insecure registry {text} should not contain '://'")
    try:
        if "/" in text:
            ipaddress.ip_network(text, strict=False)
        else:
            URL(f"http://{text}").port  # noqa: B018 - raises where the port isn't one
            if not text:
                raise ValueError("empty")
    except ValueError as error:
        raise RegistryError(f"insecure registry {text} is not valid: {error}") from None
