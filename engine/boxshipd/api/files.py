"""Containers' files over HTTP: archives in and out, export, changes, commit.

Source: Docker Engine API v1.51, ContainerArchive, ContainerArchiveInfo, PutContainerArchive, ContainerExport,
ContainerChanges and ImageCommit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from aiohttp.web_response import Response, StreamResponse
from boxship.types.containers import ContainerConfig

from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.api.version import HEADERS
from boxshipd.errors import InvalidParameter
from boxshipd.files.commit import CommitOptions

if TYPE_CHECKING:
    from boxshipd.containers.service import Containers
    from boxshipd.files.service import Files

_STAT = "X-Docker-Container-Path-Stat"


class FileOperations:
    """The operations on containers' files."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    @property
    def _files(self) -> Files:
        return self._containers.files

    async def describe(self, call: Call) -> StreamResponse:
        """ContainerArchiveInfo."""
        found = await self._files.describe(call.name, _path(call))
        return Response(headers={**HEADERS, _STAT: found.encoded()})

    async def archive(self, call: Call) -> StreamResponse:
        """ContainerArchive. Errors are answered with their status as long as no byte has been sent."""
        with call.cancelled_when_lost():
            async with self._files.archive(call.name, _path(call)) as found:
                first = await anext(found.pieces, b"")
                response = await call.open_stream("application/x-tar", {_STAT: found.stat.encoded()})
                await _send(response, first, found.pieces)
        return response

    async def extract(self, call: Call) -> StreamResponse:
        """PutContainerArchive."""
        strict, own = call.query.boolean("noOverwriteDirNonDir"), call.query.boolean("copyUIDGID")
        await self._files.extract(call.name, _path(call), call.chunks(), strict=strict, own=own)
        return empty_response(200)

    async def export(self, call: Call) -> StreamResponse:
        """ContainerExport."""
        with call.cancelled_when_lost():
            async with self._files.export(call.name) as pieces:
                first = await anext(pieces, b"")
                response = await call.open_stream("application/octet-stream")
                await _send(response, first, pieces)
        return response

    async def changes(self, call: Call) -> StreamResponse:
        """ContainerChanges; no changes are null, as in Docker."""
        return json_response(await self._files.changes(call.name) or None)

    async def commit(self, call: Call) -> StreamResponse:
        """ImageCommit."""
        query = call.query
        options = CommitOptions(
            repo=query.text("repo"),
            tag=query.text("tag"),
            comment=query.text("comment"),
            author=query.text("author"),
            pause=query.boolean("pause", default=True),
            config=await call.json_if_given(ContainerConfig),
            changes=tuple(query.texts("changes")),
        )
        return json_response({"Id": await self._files.commit(query.text("container"), options)}, 201)


def _path(call: Call) -> str:
    path = call.query.text("path")
    if not path:
        raise InvalidParameter("bad parameter: 'path' cannot be empty")
    return path


async def _send(response: StreamResponse, first: bytes, pieces: AsyncIterator[bytes]) -> None:
    await response.write(first)
    async for piece in pieces:
        await response.write(piece)
