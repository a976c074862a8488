"""An engine's API as the load's clients use it: every answer's time noted, every status checked, streams read as they come.

Anything but the status that was expected is ``Wrong``, with the operation and what the engine said.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from benchmarks.engine import Connection

ANSWER_SECONDS = 120.0
"""How long anything may take: hundreds of clients queue for a few cores, but nothing may hang."""

_VERSION = "/v1.51"
_UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
_SHOWN = 600


class Wrong(Exception):  # noqa: N818 - it is an answer that is wrong
    """An engine's answer isn't what it has to be.

    Attributes:
        operation: what was asked for, as the tally names it.
    """

    def __init__(self, operation: str, detail: str) -> None:
        super().__init__(f"{operation}: {detail}")
        self.operation = operation


class Tally:
    """What the clients together have seen: seconds by operation, statuses, and what was wrong."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []

    def note(self, operation: str, begin: float) -> None:
        """An operation that began at ``begin`` (``time.perf_counter``) has been answered."""
        self.seconds[operation].append(time.perf_counter() - begin)


class Stream:
    """The body of an answer that comes bit by bit: chunked, or raw after an upgrade, or until the connection ends."""

    def __init__(self, operation: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, chunked: bool) -> None:
        self._operation = operation
        self._reader = reader
        self._writer = writer
        self._chunked = chunked
        self._ended = False
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        """Send to what is attached."""
        self._writer.write(data)

    def write_eof(self) -> None:
        """Nothing more will be sent; what comes can still be read."""
        self._writer.write_eof()

    async def line(self) -> bytes:
        """The next line without its end; empty at the end of the stream."""
        while (end := self._held.find(b"\n")) < 0:
            if not await self._more():
                return self._take(len(self._held))
        return self._take(end + 1)[:-1]

    async def document(self) -> Any:
        """The next line as JSON; None at the end of the stream."""
        line = await self.line()
        return json.loads(line) if line else None

    async def frame(self) -> tuple[int, bytes] | None:
        """The next piece of Docker's multiplexed streams, as stream and bytes; None at the end."""
        if not await self._hold(8):
            return None
        head = self._take(8)
        size = int.from_bytes(head[4:], "big")
        if head[0] not in (1, 2) or head[1:4] != b"\0\0\0" or not await self._hold(size):
            raise Wrong(self._operation, f"a broken frame: {head!r}")
        return head[0], self._take(size)

    async def outputs(self) -> dict[int, bytes]:
        """Everything to the end of the stream, by stream."""
        pieces: dict[int, list[bytes]] = {1: [], 2: []}
        while (frame := await self.frame()) is not None:
            pieces[frame[0]].append(frame[1])
        return {number: b"".join(found) for number, found in pieces.items()}

    async def _hold(self, size: int) -> bool:
        """Have ``size`` bytes at hand; False where the stream has ended before the first of them."""
        while len(self._held) < size:
            if not await self._more():
                if self._held:
                    raise Wrong(self._operation, f"the stream ended within a piece: {bytes(self._held[:_SHOWN])!r}")
                return False
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken

    async def _more(self) -> bool:
        if self._ended:
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if not self._chunked:
                    piece = await self._reader.read(1 << 16)
                elif size := int(await self._reader.readuntil(b"\r\n"), 16):
                    piece = (await self._reader.readexactly(size + 2))[:-2]
                else:
                    piece = b""
        except TimeoutError:
            raise Wrong(self._operation, f"nothing for {ANSWER_SECONDS} s after {bytes(self._held[:_SHOWN])!r}") from None
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise Wrong(self._operation, f"the stream broke: {error!r}") from None
        self._ended = not piece
        self._held += piece
        return not self._ended


class Api:
    """One client's connections to an engine.

    Args:
        socket: the path of the API's unix socket.
        tally: where times and statuses are noted.
    """

    def __init__(self, socket: str, tally: Tally) -> None:
        self._socket = socket
        self._idle: list[Connection] = []
        self.tally = tally

    async def call(
        self, operation: str, method: str, path: str, body: object = None, *, expect: int = 200, **query: object
    ) -> bytes:
        """One request whose answer ends.

        Args:
            operation: the tally's name for it.
            expect: the only status that is right.

        Raises:
            Wrong: it has another status, or doesn't come.
        """
        begin = time.perf_counter()
        connection = self._idle.pop() if self._idle else Connection(self._socket)
        data = b"" if body is None else json.dumps(body).encode()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status, answer = await connection.call(method, _target(path, query), data)
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError | OSError | ValueError | asyncio.IncompleteReadError):
                raise Wrong(operation, f"{method} {path}: {error!r}") from None
            raise
        self._idle.append(connection)
        self.tally.note(operation, begin)
        self._check(operation, f"{method} {path}", status, answer, expect)
        return answer

    async def json(
        self, operation: str, method: str, path: str, body: object = None, *, expect: int = 200, **query: object
    ) -> Any:
        """The same, with an answer in JSON."""
        return json.loads(await self.call(operation, method, path, body, expect=expect, **query))

    @asynccontextmanager
    async def stream(
        self, operation: str, method: str, path: str, body: object = None, *, upgrade: bool = False, **query: object
    ) -> AsyncIterator[Stream]:
        """A request whose answer goes on; timed until its head is there.

        Args:
            upgrade: take the connection over, as for attaching.

        Raises:
            Wrong: its status isn't 200, or 101 where it is an upgrade.
        """
        begin = time.perf_counter()
        data = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {_target(path, query)} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n{_UPGRADE if upgrade else ''}\r\n"
        )
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=1 << 20)
        except OSError as error:
            raise Wrong(operation, f"{method} {path}: {error!r}") from None
        try:
            writer.write(head.encode() + data)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    top = await reader.readuntil(b"\r\n\r\n")
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                raise Wrong(operation, f"{method} {path}: {error!r}") from None
            status, expected = int(top.split(b" ", 2)[1]), 101 if upgrade else 200
            chunked = b"transfer-encoding: chunked" in top.lower()
            self._check(operation, f"{method} {path}", status, b"" if status == expected else await _rest(reader), expected)
            self.tally.note(operation, begin)
            yield Stream(operation, reader, writer, chunked=chunked)
        finally:
            writer.close()

    def close(self) -> None:
        """Close what connections are kept."""
        while self._idle:
            self._idle.pop().close()

    def _check(self, operation: str, request: str, status: int, answer: bytes, expected: int) -> None:
        self.tally.statuses[status] += 1
        if status != expected:
            raise Wrong(operation, f"{request}: {status} instead of {expected}: {answer[:_SHOWN]!r}")


def demultiplexed(operation: str, data: bytes) -> dict[int, bytes]:
    """A whole answer in Docker's multiplexed form, by stream.

    Raises:
        Wrong: it isn't in that form.
    """
    pieces: dict[int, list[bytes]] = {1: [], 2: []}
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        if data[at] not in pieces or at + 8 + size > len(data):
            raise Wrong(operation, f"a broken frame: {data[at : at + 8]!r}")
        pieces[data[at]].append(data[at + 8 : at + 8 + size])
        at += 8 + size
    return {number: b"".join(found) for number, found in pieces.items()}


def _target(path: str, query: dict[str, object]) -> str:
    values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in query.items()}
    return f"{_VERSION}{path}" + (f"?{urlencode(values)}" if values else "")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What an error says: the connection may stay open, so it is read only as far as it has come."""
    try:
        async with asyncio.timeout(1):
            return await reader.read(1 << 16)
    except (TimeoutError, OSError):
        return b""
