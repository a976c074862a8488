"""What refers to a manifest: signatures, attestations and other attachments.

Source: OCI distribution specification 1.1, "Listing Referrers"; go-containerregistry pkg/v1/remote/referrers.go, for the
statuses that registries without this API answer with.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from yarl import URL

from boxshipd.registry.documents import LIMIT
from boxshipd.registry.errors import Absent, BadAnswer, Refused
from boxshipd.registry.repository import Repository
from boxshipd.registry.tags import next_page
from boxshipd.registry.timing import retrying
from boxshipd.registry.transport import read_bounded

_WITHOUT_API = frozenset({400, 404, 405, 406})


async def pages(repository: Repository, digest: str) -> AsyncGenerator[tuple[bytes, str], None]:
    """The pages of the list of what refers to a manifest, each an index and its media type, as served and not yet read.

    Args:
        repository: where.
        digest: of the manifest, which needn't be there.

    Raises:
        Absent: the registry hasn't this API.
        BadAnswer: a page is too large, or goes on at another host.
    """
    target: str | URL | None = f"referrers/{digest}"
    first = True
    while target is not None:
        try:
            data, media_type, target = await _page(repository, target)
        except Refused as error:
            if first and error.status in _WITHOUT_API:
                raise Absent(str(error), error.status, error.code) from error
            raise
        first = False
        yield data, media_type


async def _page(repository: Repository, target: str | URL) -> tuple[bytes, str, URL | None]:
    async def attempt() -> tuple[bytes, str, URL | None]:
        async with repository.request("GET", target) as response:
            data = await read_bounded(response, LIMIT, "list of referrers")
            following = next_page(response)
            if following is not None and following.origin() != response.url.origin():
                raise BadAnswer("the list of referrers goes on at another host")
            return data, response.headers.get("Content-Type", ""), following

    return await retrying(attempt, repository.timing)
