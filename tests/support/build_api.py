"""Builds over the API, without any client's help: contexts, requests, streams, and sessions over websockets."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import secrets
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from boxship.types.build_session import CHUNK, Frame

from support.daemon import Daemon

TAR = {"Content-Type": "application/x-tar"}


def context(files: Mapping[str, str | bytes], mode: int = 0o644) -> bytes:
    """A context as a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            content = data.encode() if isinstance(data, str) else data
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def dockerfile(text: str, **files: str | bytes) -> bytes:
    """A context with a Dockerfile and other files."""
    return context({"Dockerfile": text, **files})


@contextlib.asynccontextmanager
async def api(daemon: Daemon) -> AsyncIterator[aiohttp.ClientSession]:
    """A connection to a daemon."""
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with aiohttp.ClientSession("http://d", connector=connector, timeout=aiohttp.ClientTimeout(120)) as session:
        yield session


class Answer:
    """What came of a build.

    Attributes:
        status: HTTP's.
        documents: the stream's, or the one of an error.
    """

    def __init__(self, status: int, documents: list[dict[str, Any]]) -> None:
        self.status = status
        self.documents = documents

    @property
    def text(self) -> str:
        """What a classic client shows."""
        return "".join(document.get("stream", "") for document in self.documents)

    @property
    def error(self) -> dict[str, Any]:
        """The error's detail; of an answer that isn't a stream, its message."""
        last = self.documents[-1]
        return {"message": last["message"]} if "message" in last else last["errorDetail"]

    @property
    def image(self) -> str:
        """The image's id."""
        found = [document["aux"]["ID"] for document in self.documents if "ID" in document.get("aux", {})]
        assert found, self.documents
        return found[-1]

    @property
    def metadata(self) -> dict[str, Any]:
        """Of a build with our own request."""
        assert "aux" in self.documents[-1], self.documents[-1]
        return self.documents[-1]["aux"]["metadata"]

    def vertices(self) -> dict[str, dict[str, Any]]:
        """Of a build with our own request: the last that was told of each step, by its name."""
        told: dict[str, dict[str, Any]] = {}
        for document in self.documents:
            for vertex in document.get("aux", {}).get("vertices", ()):
                told[vertex["digest"]] = vertex
        return {vertex.get("name", ""): vertex for vertex in told.values()}


async def build(daemon: Daemon, body: Any, headers: Mapping[str, str] | None = None, **query: object) -> Answer:
    """One classic build."""
    body = io.BytesIO(body) if isinstance(body, bytes) else body
    flat = [(key, each) for key, value in query.items() for each in (value if isinstance(value, list) else [value])]
    async with (
        api(daemon) as session,
        session.post(f"/v1.51/build?{urlencode(flat)}", data=body, headers={**TAR, **(headers or {})}) as answer,
    ):
        return Answer(answer.status, _documents(await answer.text()))


class SessionClient:
    """The client's side of a session.

    Args:
        supplies: what it has: archives and secrets by ``method name``.
    """

    def __init__(self, supplies: Mapping[str, bytes]) -> None:
        self.supplies = supplies
        self.received: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.agents: Callable[[bytes], bytes] = lambda question: question
        self._streams: dict[int, Frame] = {}
        self._allowed: dict[int, asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Answer everything that is asked, until the daemon ends it."""

        async def say(**fields: Any) -> None:
            await socket.send_bytes(msgspec.msgpack.encode(Frame(**fields)))

        async for message in socket:
            frame = msgspec.msgpack.decode(message.data, type=Frame)
            if frame.kind == "open":
                self._streams[frame.stream] = frame
                self.asked.append(f"{frame.method} {frame.name}")
                if frame.method in ("context", "secret"):
                    task = asyncio.ensure_future(self._supply(frame, say))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
            elif frame.kind == "data":
                opened = self._streams[frame.stream]
                await say(stream=frame.stream, kind="ack", count=len(frame.data))
                if opened.method == "receive":
                    self.received[opened.name] = self.received.get(opened.name, b"") + frame.data
                else:
                    await say(stream=frame.stream, kind="data", data=self.agents(frame.data))
            elif frame.kind == "end":
                await say(stream=frame.stream, kind="end")

    async def _supply(self, frame: Frame, say: Any) -> None:
        data = self.supplies.get(f"{frame.method} {frame.name}")
        if data is None:
            await say(stream=frame.stream, kind="error", missing=True, message="there is none")
            return
        for offset in range(0, len(data), CHUNK):
            # Far below what may be on its way unacknowledged.
            await say(stream=frame.stream, kind="data", data=data[offset : offset + CHUNK])
        await say(stream=frame.stream, kind="end")


async def build_ours(
    daemon: Daemon, request: Mapping[str, Any], supplies: Mapping[str, bytes] | None = None, client: SessionClient | None = None
) -> Answer:
    """One build with our own request; with a session, if something is supplied or received."""
    client = client or SessionClient(supplies or {})
    name = secrets.token_hex(16)
    async with api(daemon) as session, session.ws_connect(f"/build/session?id={name}") as socket:
        serving = asyncio.ensure_future(client.serve(socket))
        try:
            async with session.post(f"/build?version=boxship&session={name}", json=request) as answer:
                return Answer(answer.status, _documents(await answer.text()))
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving


def _documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """An archive's members by their names."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: member for member in tar}


def content(archive: bytes, name: str) -> bytes:
    """A file in an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return file.read()


def document(archive: bytes, digest: str) -> dict[str, Any]:
    """A JSON blob of an OCI layout."""
    return json.loads(content(archive, f"blobs/{digest.replace(':', '/')}"))


def logs(answer: Answer) -> bytes:
    """What commands printed, of a build with our own request."""
    pieces: Iterable[str] = (
        log["data"] for each in answer.documents for log in each.get("aux", {}).get("logs", ()) if log["stream"] == 1
    )
    return b"".join(msgspec.json.decode(json.dumps(piece).encode(), type=bytes) for piece in pieces)
