"""Searching for images, which only the old API (v1) of an index can.

Source: moby daemon/pkg/registry (search.go, search_session.go, search_endpoint_v1.go).
"""

from __future__ import annotations

import msgspec
from boxship.types.registry import SearchResult
from msgspec import Struct
from yarl import URL

from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters
from boxshipd.images.reference import DEFAULT_DOMAIN
from boxshipd.registry.answers import printable, refusal
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import Credentials
from boxshipd.registry.errors import BadAnswer, Unreachable
from boxshipd.registry.hosts import Endpoint
from boxshipd.registry.timing import retrying
from boxshipd.registry.transport import read_bounded

_INDEX = "index.docker.io"
_LIMIT = 100
_USUAL = 25
_ANSWER_LIMIT = 4 << 20


class _Row(Struct, frozen=True):
    name: str
    description: str | None = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class _Rows(Struct, frozen=True):
    results: list[_Row] | None = None


def split(term: str) -> tuple[str, str]:
    """The registry to search and what for.

    Raises:
        InvalidParameter: that can't be searched for.
    """
    if "://" in term:
        raise InvalidParameter("invalid repository name: repository name (" + term + ") should not have a scheme")
    first, slash, rest = term.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return DEFAULT_DOMAIN, term.removeprefix("library/")
    if first in (_INDEX, DEFAULT_DOMAIN):
        return DEFAULT_DOMAIN, rest.removeprefix("library/")
    return first, rest


async def search(
    client: RegistryClient, term: str, limit: int | None, filters: Filters, credentials: Credentials
) -> list[SearchResult]:
    """Images whose name or description has to do with ``term``.

    Args:
        client: the connections.
        term: what to look for, after a registry's name and a slash where it isn't Docker Hub.
        limit: how many at most; the index decides where it is 0, 25 where it isn't given.
        filters: ``is-official``, ``is-automated`` and ``stars``.
        credentials: for the registry.

    Raises:
        InvalidParameter: the limit or a filter is wrong.
        RegistryError: the registry can't be searched.
    """
    limit = _USUAL if limit is None else limit
    if limit and not 1 <= limit <= _LIMIT:
        raise InvalidParameter(f"invalid limit {limit}: limit must be between 1 and {_LIMIT}")
    filters.validate(("is-automated", "is-official", "stars"))
    official = filters.boolean("is-official", False) if "is-official" in filters else None
    automated = filters.boolean("is-automated", False) if "is-automated" in filters else None
    stars = _stars(filters)
    domain, wanted = split(term)
    # No image is automated any more, whatever the index says.
    if automated:
        return []
    rows = await _ask(client, domain, {"q": wanted, "n": str(limit)} if limit else {"q": wanted}, credentials)
    return [
        SearchResult(row.star_count, row.is_official, printable(row.name), False, printable(row.description or ""))
        for row in rows
        if (official is None or row.is_official == official) and row.star_count >= stars
    ]


def _stars(filters: Filters) -> int:
    try:
        return max((int(value) for value in filters.get("stars")), default=0)
    except ValueError:
        raise InvalidParameter(f"invalid filter 'stars={','.join(filters.get('stars'))}'") from None


async def _ask(client: RegistryClient, domain: str, query: dict[str, str], credentials: Credentials) -> list[_Row]:
    host = _INDEX if domain == DEFAULT_DOMAIN else domain
    insecure = await client.hosts.insecure(host)
    endpoints = [Endpoint(URL(f"https://{host}/v1/search"), "", host, verify=not insecure)]
    if insecure:
        endpoints.append(Endpoint(URL(f"http://{host}/v1/search"), "", host, verify=False))
    headers = {"X-Docker-Token": "true", **({"Authorization": credentials.basic} if credentials.basic else {})}

    async def attempt(endpoint: Endpoint) -> list[_Row]:
        url = endpoint.root.update_query(query)
        async with client.transport.send("GET", url, endpoint=endpoint, headers=headers) as response:
            if response.status != 200:
                raise await refusal(response, f"registry {host} can't be searched")
            data = await read_bounded(response, _ANSWER_LIMIT, "search result")
        try:
            return msgspec.json.decode(data, type=_Rows).results or []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadAnswer(f"registry {host} answers the search in a form that can't be understood") from None

    for endpoint in endpoints[:-1]:
        try:
            return await retrying(lambda endpoint=endpoint: attempt(endpoint), client.transport.timing)  # type: ignore[misc]
        except Unreachable as error:
            if not error.plain:
                raise
    return await retrying(lambda: attempt(endpoints[-1]), client.transport.timing)
