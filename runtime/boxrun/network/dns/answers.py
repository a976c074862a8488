"""From a query to its answer: the container's networks' names, the cache, other servers."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from ipaddress import ip_address

from boxrun.network.contract import Resolver
from boxrun.network.dns import codec
from boxrun.network.dns.cache import Cache
from boxrun.network.dns.codec import Answer, Query, Response
from boxrun.network.dns.names import Directory
from boxrun.network.dns.prepared import Prepared
from boxrun.network.dns.upstream import Server, ask, parse_server

TTL = 600
"""Docker's."""

LARGEST_TCP = 65535

UNDER_WAY = 256
"""Questions to other servers that one container may have waiting; more are told to try again."""

ALL_UNDER_WAY = 4096


class Client:
    """A container as one that asks."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.networks: tuple[str, ...] = ()
        self.resolver = Resolver()
        self.servers: list[Server] = []
        self.links: dict[str, list[codec.Address]] = {}
        self.under_way = 0

    def settle(self, networks: tuple[str, ...], resolver: Resolver) -> None:
        """What it is on, and whom it asks. Raises ValueError."""
        self.networks, self.resolver = networks, resolver
        self.servers = [parse_server(text) for text in resolver.servers]
        self.links = {name.lower(): [ip_address(text) for text in found] for name, found in resolver.links.items()}


class Answers:
    """Answers for every container."""

    def __init__(self, directory: Directory, cache: Cache, prepared: Prepared) -> None:
        """``prepared`` is to be cleared by whoever changes ``directory`` or a client."""
        self._directory = directory
        self._cache = cache
        self._prepared = prepared
        self._asking: dict[Hashable, asyncio.Task[Response | None]] = {}
        self._under_way = 0

    def datagram(self, client: Client, data: bytes) -> bytes | Query | None:
        """As ``at_once``, for what came in a datagram."""
        return self._prepared.find(client, data) or self.at_once(client, data, tcp=False)

    def at_once(self, client: Client, data: bytes, *, tcp: bool) -> bytes | Query | None:
        """The answer where none else is to be asked, or the query that ``later`` answers; None where none is deserved."""
        try:
            query = codec.parse_query(data)
        except codec.MalformedError:
            return codec.malformed_failure(data)
        if not query.standard:
            return codec.failure(query, codec.NOTIMP)
        if query.klass != codec.IN:
            return codec.failure(query, codec.REFUSED)
        limit = _limit(query, tcp)
        local = self._local(client, query, limit)
        if local is not None:
            if not tcp:
                self._prepared.keep(client, data, local)
            return local.to(data[:2])
        if not client.resolver.forward or not client.servers:
            return codec.failure(query, codec.SERVFAIL)
        kept = self._cache.get(_key(client, query, tcp)) if query.plain else None
        if kept is not None:
            response, age = kept
            return codec.for_client(query, response, age, limit)
        if client.under_way >= UNDER_WAY or self._under_way >= ALL_UNDER_WAY:
            return codec.failure(query, codec.SERVFAIL)
        return query

    def _local(self, client: Client, query: Query, limit: int) -> Answer | None:
        found = client.links.get(query.name) or self._directory.find(query.name, client.networks)
        if found is not None:
            return codec.address_answer(query, found, TTL, limit)
        if query.kind == codec.PTR and (address := codec.reverse_address(query.name)) is not None:
            owners = self._directory.owners(address, client.networks)
            if owners:
                return codec.name_answer(query, owners, TTL, limit)
        return None

    async def later(self, client: Client, query: Query, data: bytes, *, tcp: bool) -> bytes:
        """The answer of another server. Who asks the same at the same time shares it."""
        client.under_way += 1
        self._under_way += 1
        try:
            response = await self._asked(client, query, data, tcp=tcp)
        finally:
            client.under_way -= 1
            self._under_way -= 1
        if response is None:
            return codec.failure(query, codec.SERVFAIL)
        return codec.for_client(query, response, 0, _limit(query, tcp))

    async def _asked(self, client: Client, query: Query, data: bytes, *, tcp: bool) -> Response | None:
        timeout = min(max(client.resolver.timeout, 0.1), 30.0)
        if not query.plain:
            return await ask(client.servers, query, data, timeout, tcp=tcp)
        key = _key(client, query, tcp)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(ask(client.servers, query, data, timeout, tcp=tcp))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: Hashable, task: asyncio.Task[Response | None]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled() and task.exception() is None and (response := task.result()) is not None:
            self._cache.put(key, response)


def _limit(query: Query, tcp: bool) -> int:
    return LARGEST_TCP if tcp else min(query.size, codec.LARGEST_UDP)


def _key(client: Client, query: Query, tcp: bool) -> Hashable:
    flags = query.flags & 0x0110
    return client.resolver.servers, query.question.lower(), flags, query.edns, query.dnssec, tcp
