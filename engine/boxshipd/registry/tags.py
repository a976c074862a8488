"""The tags of a repository.

Source: OCI distribution specification 1.1, "Listing Tags"; RFC 8288 (``Link``).
"""

from __future__ import annotations

import re

import msgspec
from aiohttp import ClientResponse
from msgspec import Struct
from yarl import URL

from boxshipd.registry.errors import BadAnswer
from boxshipd.registry.repository import Repository
from boxshipd.registry.timing import retrying
from boxshipd.registry.transport import read_bounded

_PAGE_LIMIT = 4 << 20
_PAGES = 1000
_TAGS = 100_000
_NEXT = re.compile(r'<([^<>\s]{1,4096})>\s*;[^,]*\brel="?next"?')


class _Tags(Struct, frozen=True):
    tags: list[str] | None = None


async def listed(repository: Repository) -> list[str]:
    """All tags, over as many pages as there are.

    Raises:
        Absent: there is no such repository.
        BadAnswer: the answer can't be understood or doesn't end.
    """
    found: list[str] = []
    target: str | URL = "tags/list"
    asked: set[str | URL] = set()
    while target not in asked and len(asked) < _PAGES and len(found) <= _TAGS:
        asked.add(target)
        tags, following = await _page(repository, target)
        found += tags
        if following is None:
            return found
        target = following
    raise BadAnswer(f"repository {repository.name} lists more than {_TAGS} tags, or doesn't come to an end")


async def _page(repository: Repository, target: str | URL) -> tuple[list[str], URL | None]:
    async def attempt() -> tuple[list[str], URL | None]:
        async with repository.request("GET", target) as response:
            data = await read_bounded(response, _PAGE_LIMIT, "list of tags")
            following = next_page(response)
            if following is not None and following.origin() != response.url.origin():
                raise BadAnswer("the list of tags goes on at another host")
        try:
            return msgspec.json.decode(data, type=_Tags).tags or [], following
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BadAnswer(f"repository {repository.name} lists its tags in a form that can't be understood") from None

    return await retrying(attempt, repository.timing)


def next_page(response: ClientResponse) -> URL | None:
    """Where a list goes on, if it does."""
    link = _NEXT.search(",".join(response.headers.getall("Link", ())))
    return response.url.join(URL(link[1], encoded=True)) if link else None
