"""The registry client as a whole: connections, and the repositories they lead to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from boxshipd.images.reference import Reference
from boxshipd.registry.auth import Authorizer, Memory
from boxshipd.registry.certificates import Certificates
from boxshipd.registry.credentials import ANONYMOUS, Credentials
from boxshipd.registry.hosts import Endpoint, Hosts, Purpose, RegistrySettings
from boxshipd.registry.own_listeners import OwnListeners
from boxshipd.registry.repository import Repository
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.transport import Transport


class RegistryClient:
    """Access to all registries. To be used on the event loop; ``close`` it in the end.

    Args:
        settings: the daemon's.
        own: where the engine itself listens, which nothing here connects to.
    """

    def __init__(self, settings: ClientSettings, own: OwnListeners | None = None) -> None:
        self.settings = settings
        self.hosts = Hosts(settings.mirrors, settings.insecure, settings.registries, settings.certificates)
        self.transport = Transport(
            Certificates(settings.certificates),
            settings.proxies.over(),
            settings.timing,
            self.hosts.insecure,
            own or OwnListeners(),
        )
        self._memory = Memory()
        self._plain: set[str] = set()

    async def repositories(self, name: Reference, credentials: Credentials, purpose: Purpose) -> list[Repository]:
        """The places where a repository is to be had, to be tried in order; the registry itself is the last.

        Args:
            name: of an image in it.
            credentials: for the registry; its mirrors don't get them.
            purpose: what for.
        """
        return [
            self._repository(place, ANONYMOUS if place.mirror else credentials, self._memory)
            for place in await self.hosts.endpoints(name, purpose)
        ]

    async def unremembered(self, name: Reference, credentials: Credentials) -> Repository:
        """The registry's own repository, asked as if for the first time: no token of an earlier request counts."""
        return self._repository((await self.hosts.endpoints(name, "push"))[-1], credentials, Memory())

    def _repository(self, endpoint: Endpoint, credentials: Credentials, memory: Memory) -> Repository:
        authorizer = Authorizer(self.transport, endpoint, credentials, memory, self.hosts.insecure)
        return Repository(self.transport, authorizer, self._plain)

    def reconfigured(self, mirrors: Sequence[str], insecure: Sequence[str], registries: Mapping[str, RegistrySettings]) -> None:
        """Take other settings over, for what begins from now on."""
        self.hosts.configure(mirrors, insecure, registries)

    async def close(self) -> None:
        """Close all connections."""
        await self.transport.close()
