"""What is at a URL: archives that are imported, and contexts of builds.

Source: moby daemon/server/router/image/image_routes.go (``postImagesCreate``), daemon/builder/remotecontext/remote.go.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing

from aiohttp import ClientResponse
from boxship.types.images import ProgressMessage
from yarl import URL

from boxshipd.errors import InvalidParameter
from boxshipd.images.output import Output
from boxshipd.registry.answers import refusal
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.hosts import Endpoint

TakeIn = Callable[[AsyncIterator[bytes]], AsyncGenerator[ProgressMessage, None]]
"""Imports an archive, telling how."""


def address(source: str) -> URL:
    """The URL that a client means; ``http://`` where it gives no scheme, as with Docker.

    Raises:
        InvalidParameter: it means none.
    """
    try:
        url = URL(source if "://" in source else f"http://{source}")
    except ValueError as error:
        raise InvalidParameter(f"invalid source {source!r}: {error}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidParameter(f"invalid source {source!r}: it must be - or the address of an archive")
    return url


@contextlib.asynccontextmanager
async def download(client: RegistryClient, url: URL, headers: Mapping[str, str] | None = None) -> AsyncIterator[ClientResponse]:
    """What is at a URL, inside the block.

    Args:
        client: the connections.
        url: where; a user name and a password in it go to that host only.
        headers: further headers: what must have changed since, or an account, which counts before that of the URL.

    Raises:
        RegistryError: it can't be had.
    """
    plain = url.with_user(None)
    sent = dict(headers or {})
    if url.user is not None:
        sent.setdefault("Authorization", "Basic " + base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode())
    endpoint = Endpoint(plain.origin(), "", plain.authority)
    async with client.transport.send("GET", plain, endpoint=endpoint, headers=sent) as response:
        if response.status >= 400:
            raise await refusal(response, f"failed to GET {plain.with_query(None)}")
        yield response


async def import_from(client: RegistryClient, url: URL, take_in: TakeIn, output: Output) -> None:
    """Import what is at a URL.

    Args:
        client: the connections.
        url: where, as for ``download``.
        take_in: imports what comes.
        output: told of everything.

    Raises:
        RegistryError: it can't be had.
    """
    async with download(client, url) as response:
        output.message(f"Downloading from {url.with_user(None)}")
        chunks = _counted(response.content.iter_any(), response.content_length or 0, output)
        async with aclosing(take_in(chunks)) as messages:
            async for message in messages:
                output.pass_on(message)


async def _counted(chunks: AsyncIterator[bytes], total: int, output: Output) -> AsyncIterator[bytes]:
    arrived = 0
    async for chunk in chunks:
        arrived += len(chunk)
        output.progress("", "Importing", arrived, total)
        yield chunk
