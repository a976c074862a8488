"""Getting, asking for and putting manifests and indexes.

Source: OCI distribution specification 1.1, "Pulling manifests", "Pushing Manifests".
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from aiohttp import ClientResponse

from boxshipd.errors import InvalidParameter
from boxshipd.images.digest import parse_digest
from boxshipd.images.errors import DigestMismatch
from boxshipd.registry import documents
from boxshipd.registry.documents import Document
from boxshipd.registry.errors import Absent, BadAnswer
from boxshipd.registry.repository import Repository
from boxshipd.registry.timing import retrying
from boxshipd.registry.transport import read_bounded

_DIGEST_HEADER = "Docker-Content-Digest"


async def get(repository: Repository, reference: str) -> Document:
    """A manifest or an index, verified.

    Args:
        repository: where.
        reference: a tag or a digest.

    Raises:
        Absent: there is none.
        BadDocument: it can't be used.
        DigestMismatch: it isn't what its digest says.
    """

    async def attempt() -> tuple[bytes, str, str]:
        headers = {"Accept": documents.ACCEPT}
        async with repository.request("GET", f"manifests/{reference}", headers=headers) as response:
            data = await read_bounded(response, documents.LIMIT, f"manifest {reference}")
            _check_length(response, data, reference)
            return data, response.headers.get("Content-Type", ""), response.headers.get(_DIGEST_HEADER, "")

    data, media_type, announced = await retrying(attempt, repository.timing)
    # A document of megabytes takes a while to be read.
    return await asyncio.to_thread(_verified, data, media_type, announced, reference)


async def head(repository: Repository, reference: str) -> tuple[str, str, int] | None:
    """The media type, digest and size of a manifest, where the registry tells without sending it; None where it doesn't.

    Raises:
        Absent: there is none.
    """

    async def attempt() -> tuple[str, str, int] | None:
        headers = {"Accept": documents.ACCEPT}
        async with repository.request("HEAD", f"manifests/{reference}", headers=headers) as response:
            digest, size = response.headers.get(_DIGEST_HEADER, ""), response.content_length
            if not digest or size is None:
                return None
            try:
                return response.headers.get("Content-Type", ""), str(parse_digest(digest)), size
            except InvalidParameter:
                raise BadAnswer(f"manifest {reference} is announced with an invalid digest") from None

    return await retrying(attempt, repository.timing)


async def exists(repository: Repository, digest: str, scopes: Sequence[str] = ()) -> bool:
    """Whether the registry has the manifest of a digest."""

    async def attempt() -> bool:
        headers = {"Accept": documents.ACCEPT}
        try:
            async with repository.request("HEAD", f"manifests/{digest}", headers=headers, scopes=scopes):
                return True
        except Absent:
            return False

    return await retrying(attempt, repository.timing)


async def put(repository: Repository, reference: str, document: Document) -> None:
    """Put a manifest or an index, whose parts must be there already, under a tag or its digest.

    Raises:
        Refused: the registry doesn't take it.
        BadAnswer: it has taken something else.
    """

    async def attempt() -> None:
        headers = {"Content-Type": document.media_type}
        async with repository.request(
            "PUT",
            f"manifests/{reference}",
            accept=(200, 201, 202),
            scopes=(repository.scope("pull", "push"),),
            headers=headers,
            body=document.data,
            slow=True,
        ) as response:
            taken = response.headers.get(_DIGEST_HEADER, document.digest)
            if taken.startswith("sha256:") and document.digest.startswith("sha256:") and taken != document.digest:
                raise BadAnswer(f"the registry has taken manifest {document.digest} as {taken}")

    await retrying(attempt, repository.timing)


def _check_length(response: ClientResponse, data: bytes, reference: str) -> None:
    # aiohttp sees to it for what it reads, unless the connection's end is the body's.
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) != len(data):
        raise BadAnswer(f"manifest {reference} has {len(data)} bytes, not {announced} as announced")


def _verified(data: bytes, media_type: str, announced: str, reference: str) -> Document:
    wanted = [digest for digest in (reference if ":" in reference else "", announced) if digest]
    for text in wanted:
        try:
            digest = parse_digest(text)
        except InvalidParameter:
            raise BadAnswer(f"manifest {reference} is announced with an invalid digest") from None
        actual = f"{digest.algorithm}:{hashlib.new(digest.algorithm, data).hexdigest()}"
        if actual != text:
            raise DigestMismatch(f"manifest verification failed for digest {text}: it has {actual}")
    return documents.read(data, media_type, reference if ":" in reference else "")
