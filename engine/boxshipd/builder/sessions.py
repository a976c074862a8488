"""Sessions: the clients that builds get their contexts, secrets and agents from, and give archives to.

A client of ours has a websocket for it (``SessionRegistry``); one that speaks Docker's API has nothing but the context that is
its request's body (``BodySession``).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator

from boxshipd.builder.session_streams import Send, Stream, Streams
from boxshipd.errors import Conflict, DaemonError, InvalidParameter, NotFound

CONTEXT = "context"
"""The name of the build context, beside those that ``--build-context`` names."""

_ID = re.compile(r"[A-Za-z0-9_-]{16,128}")
_APPEARS_WITHIN = 10.0
"""Seconds that a build waits for the session that it names. Source: BuildKit session/manager.go waits for 5."""
_SECRET_LIMIT = 500 * 1024
"""Bytes. Source: BuildKit session/secrets (MaxSecretSize)."""
_BLOCK = 64 * 1024


class BodySession:
    """The session of a classic request.

    Args:
        chunks: the request's body, which is the context; None where it isn't.
    """

    def __init__(self, chunks: AsyncIterator[bytes] | None = None) -> None:
        self._chunks = chunks

    async def context(self, name: str) -> AsyncIterator[bytes]:
        """The request's body, once.

        Raises:
            NotFound: another context, or none was sent.
        """
        if name != CONTEXT or self._chunks is None:
            raise NotFound(f"context {name}: the client doesn't supply it")
        chunks, self._chunks = self._chunks, None
        return chunks

    async def secret(self, secret_id: str) -> bytes:
        """There are none.

        Raises:
            NotFound: always.
        """
        raise NotFound(f"secret {secret_id}: not found: Docker's classic builder takes no secrets")

    async def agent(self, agent_id: str) -> int:
        """There are none.

        Raises:
            NotFound: always.
        """
        raise NotFound(f"SSH agent {agent_id}: not found: Docker's classic builder takes no agents")

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        """Nobody would take it.

        Raises:
            NotFound: always.
        """
        raise NotFound(f"output {destination}: Docker's classic builder makes images only")


class ClientSession:
    """The session of a client with a websocket. Implements ``builder.session.Session``.

    Args:
        streams: the client's streams.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._pumps: set[asyncio.Task[None]] = set()

    async def context(self, name: str) -> AsyncIterator[bytes]:
        """A context as a tar stream.

        Raises:
            NotFound: the client doesn't have it.
        """
        stream = await self._streams.open("context", name)
        try:
            # What is missing is told here, and not when the archive is read.
            first = await stream.read()
        except BaseException:
            await stream.close()
            raise
        return _preceded(first, stream)

    async def secret(self, secret_id: str) -> bytes:
        """A secret's bytes.

        Raises:
            NotFound: the client doesn't have it.
            InvalidParameter: it is too large.
        """
        stream = await self._streams.open("secret", secret_id)
        try:
            data = bytearray()
            while piece := await stream.read():
                data += piece
                if len(data) > _SECRET_LIMIT:
                    raise InvalidParameter(f"secret {secret_id}: it has more than the {_SECRET_LIMIT} bytes allowed")
            return bytes(data)
        finally:
            await stream.close()

    async def agent(self, agent_id: str) -> int:
        """A new connection to an SSH agent: a stream socket's descriptor, which is the caller's to close."""
        stream = await self._streams.open("agent", agent_id)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        task = asyncio.create_task(_pump(stream, ours))
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        return theirs.detach()

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        """Send an archive to the client; it returns when the client has it safely.

        Raises:
            InvalidParameter: the client can't take it.
        """
        stream = await self._streams.open("receive", destination)
        try:
            async for chunk in chunks:
                await stream.write(chunk)
            await stream.end()
            await stream.ended()
        finally:
            await stream.close()

    async def close(self) -> None:
        """The client is gone."""
        self._streams.close()
        pumps = [*self._pumps]
        for pump in pumps:
            pump.cancel()
        if pumps:
            await asyncio.wait(pumps)


class SessionRegistry:
    """The clients' sessions by their ids. To be used on the event loop."""

    def __init__(self) -> None:
        self._sessions: dict[str, ClientSession] = {}
        self._arrived = asyncio.Event()

    @contextlib.asynccontextmanager
    async def joined(self, session_id: str, send: Send) -> AsyncIterator[Streams]:
        """A client's session inside the block, to be fed with the messages that come.

        Raises:
            InvalidParameter: that can't be an id.
            Conflict: there is a session of that id.
        """
        with self._registered(session_id, send) as (session, streams):
            try:
                yield streams
            finally:
                await session.close()

    @contextlib.contextmanager
    def _registered(self, session_id: str, send: Send) -> Iterator[tuple[ClientSession, Streams]]:
        self.check(session_id)
        if session_id in self._sessions:
            raise Conflict(f"build session {session_id} is there already")
        streams = Streams(send)
        session = self._sessions[session_id] = ClientSession(streams)
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()
        try:
            yield session, streams
        finally:
            del self._sessions[session_id]

    @staticmethod
    def check(session_id: str) -> None:
        """Refuse what can't be an id: one that could be guessed among them.

        Raises:
            InvalidParameter: it can't.
        """
        if not _ID.fullmatch(session_id):
            raise InvalidParameter("invalid build session: its id must have 16 to 128 letters, digits, - and _")

    async def find(self, session_id: str) -> ClientSession:
        """The session of an id; one that isn't there yet is waited for.

        Raises:
            InvalidParameter: that can't be an id.
            NotFound: it doesn't come.
        """
        self.check(session_id)
        try:
            async with asyncio.timeout(_APPEARS_WITHIN):
                while session_id not in self._sessions:
                    await self._arrived.wait()
        except TimeoutError:
            raise NotFound(f"no build session {session_id}") from None
        return self._sessions[session_id]


async def _preceded(first: bytes, stream: Stream) -> AsyncIterator[bytes]:
    """A stream whose first piece has been read already."""
    try:
        if first:
            yield first
            async for piece in stream.pieces():
                yield piece
    finally:
        await stream.close()


async def _pump(stream: Stream, ours: socket.socket) -> None:
    """Carry bytes between an agent's stream and the socket that stands for it here, until both directions have ended."""
    reader, writer = await asyncio.open_connection(sock=ours)

    async def outwards() -> None:
        while data := await reader.read(_BLOCK):
            await stream.write(data)
        await stream.end()

    async def inwards() -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(outwards())
            group.create_task(inwards())
    except* (DaemonError, ConnectionError):
        # Either side may leave when it likes; the other one sees the end of it.
        pass
    finally:
        writer.close()
        await stream.close()
