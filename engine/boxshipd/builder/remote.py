"""Where a build's context comes from: the client, a repository, or a URL of an archive or of a Dockerfile alone.

Source: moby builder/remotecontext/detect.go, remote.go, whose rules and messages these are.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boxship.archive.tar_writer import END

from boxshipd.builder.graph import ContextSource, GitSource, HttpSource
from boxshipd.builder.ops.authorization import of_url
from boxshipd.builder.planner.git_references import parse_git_context
from boxshipd.builder.session import Session
from boxshipd.builder.sessions import CONTEXT, BodySession
from boxshipd.errors import DaemonError, InvalidParameter
from boxshipd.images.unpack.compression import detect

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution

_HEAD = 512
_TAR_MAGIC = slice(257, 262)
_DOCKERFILE_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A build's context.

    Attributes:
        source: what COPY and ADD take from.
        session: the client's side, with the context that was downloaded for it.
        dockerfile: the Dockerfile, where it is all that there is.
    """

    source: ContextSource | GitSource | HttpSource
    session: Session
    dockerfile: bytes | None = None


@contextlib.asynccontextmanager
async def remote_context(distribution: Distribution, remote: str, session: Session) -> AsyncIterator[RemoteContext]:
    """The context of a build, as long as the block lasts.

    Args:
        distribution: downloads.
        remote: the request's; empty for the client's own.
        session: the client's side.

    Raises:
        InvalidParameter: there is nothing there that a build could begin with.
    """
    if not remote:
        yield RemoteContext(ContextSource(), session)
        return
    reference = parse_git_context(remote)
    if reference is not None:
        yield RemoteContext(reference.source, session)
        return
    if not remote.startswith(("http://", "https://")):
        raise InvalidParameter(f"remoteURL ({remote}) could not be recognized as URL")
    async with contextlib.AsyncExitStack() as stack:
        try:
            headers = {"Authorization": said} if (said := await of_url(urlsplit(remote).hostname or "", session)) else None
            media_type, chunks = await stack.enter_async_context(distribution.download(remote, headers))
        except DaemonError as error:
            raise InvalidParameter(f"error downloading remote context {remote}: {error}") from error
        head = await _head(chunks)
        text = None
        if detect(head[:6]) or head[_TAR_MAGIC] == b"ustar":
            archive = _preceded(head, chunks)
        else:
            text = await _text(head, chunks, remote, media_type)
            archive = _once(END)
        yield RemoteContext(ContextSource(), _WithContext(session, BodySession(archive)), text)


class _WithContext:
    """A client's session, whose build context is another."""

    def __init__(self, session: Session, body: BodySession) -> None:
        self._session = session
        self._body = body

    async def context(self, name: str) -> AsyncIterator[bytes]:
        return await (self._body if name == CONTEXT else self._session).context(name)

    async def secret(self, secret_id: str) -> bytes:
        return await self._session.secret(secret_id)

    async def agent(self, agent_id: str) -> int:
        return await self._session.agent(agent_id)

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        await self._session.receive(destination, chunks)


async def _head(chunks: AsyncIterator[bytes]) -> bytes:
    """At least the first block of what comes, if there is so much."""
    head = b""
    while len(head) < _HEAD and (piece := await anext(chunks, b"")):
        head += piece
    return head


async def _text(head: bytes, chunks: AsyncIterator[bytes], remote: str, media_type: str) -> bytes:
    """What comes, as a Dockerfile.

    Raises:
        InvalidParameter: it can't be one.
    """
    pieces, size = [head], len(head)
    async for piece in chunks:
        pieces.append(piece)
        size += len(piece)
        if size > _DOCKERFILE_LIMIT:
            break
    text = b"".join(pieces)
    if size > _DOCKERFILE_LIMIT or b"\0" in text or media_type == "text/html":
        raise InvalidParameter(
            f"error downloading remote context {remote}: content of type {media_type or 'unknown'} is neither an archive nor "
            "a Dockerfile"
        )
    return text


async def _preceded(head: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in chunks:
        yield piece


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece
