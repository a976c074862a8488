"""One request to one operation: what its handler gets to see, and the answers it can give."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import msgspec
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse

from boxshipd.api.connection import ClientGoneError, Connection
from boxshipd.api.nulls import decode_leniently
from boxshipd.api.query import Query
from boxshipd.api.version import HEADERS, ApiVersion
from boxshipd.errors import InvalidParameter

T = TypeVar("T")

BODY_LIMIT = 4 * 1024 * 1024
"""The largest JSON body that is read, in bytes; Docker's own limit where it has one (authorization plugins)."""

_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Call:
    """A request, the name in its path (empty where there is none), and the API version it speaks.

    ``started`` tells that the head of an answer is out, so that no status can tell of an error any more.
    """

    __slots__ = ("_query", "name", "request", "started", "version")

    def __init__(self, request: BaseRequest, name: str, version: ApiVersion) -> None:
        self.request = request
        self.name = name
        self.version = version
        self.started = False
        self._query: Query | None = None

    @property
    def query(self) -> Query:
        """The request's parameters."""
        if self._query is None:
            self._query = Query(self.request.raw_path.partition("?")[2])
        return self._query

    @property
    def connection(self) -> Connection:
        """The connection the request came on."""
        return cast(Connection, self.request.protocol)

    async def json(self, kind: type[T]) -> T:
        """The request's body as a ``kind``.

        Raises:
            InvalidParameter: it isn't JSON, isn't declared to be, is too large, or doesn't fit.
        """
        self._require_json()
        body = await self.body()
        if not body.strip():
            raise InvalidParameter("invalid JSON: got EOF while reading request body")
        return self._decoded(body, kind)

    async def json_if_given(self, kind: type[T]) -> T | None:
        """As ``json``, for a body that may be missing or null.

        Raises:
            InvalidParameter: as for ``json``.
        """
        self._require_json()
        body = await self.body()
        return None if body.strip() in (b"", b"null") else self._decoded(body, kind)

    @staticmethod
    def _decoded(body: bytes, kind: type[T]) -> T:
        try:
            return decode_leniently(body, kind)
        except msgspec.ValidationError as error:
            raise InvalidParameter(f"invalid JSON: {error}") from None
        except msgspec.DecodeError as error:
            if "trailing characters" in str(error):
                raise InvalidParameter("unexpected content after JSON") from None
            raise InvalidParameter(f"invalid JSON: {error}") from None

    def _require_json(self) -> None:
        declared = self.request.headers.get("Content-Type", "")
        if not declared and not self.request.can_read_body:
            return
        media_type = declared.partition(";")[0].strip()
        if not _MEDIA_TYPE.fullmatch(media_type):
            reason = "mime: no media type" if not media_type else "mime: expected slash after first token"
            raise InvalidParameter(f"malformed Content-Type header ({declared}): {reason}")
        if media_type.lower() != "application/json":
            raise InvalidParameter(f"unsupported Content-Type header ({declared}): must be 'application/json'")

    async def body(self) -> bytes:
        """The request's whole body.

        Raises:
            InvalidParameter: it is too large.
        """
        if (self.request.content_length or 0) > BODY_LIMIT:
            raise InvalidParameter(f"http: request body too large: more than {BODY_LIMIT} bytes")
        parts: list[bytes] = []
        size = 0
        try:
            async for part in self.request.content.iter_any():
                size += len(part)
                if size > BODY_LIMIT:
                    raise InvalidParameter(f"http: request body too large: more than {BODY_LIMIT} bytes")
                parts.append(part)
        except ConnectionError as error:
            raise ClientGoneError("client went away before it had sent its whole request") from error
        return b"".join(parts)

    def chunks(self) -> AsyncIterator[bytes]:
        """The request's body as it arrives, for archives."""
        return self.request.content.iter_any()

    async def open_stream(self, content_type: str, headers: Mapping[str, str] | None = None) -> StreamResponse:
        """Answer 200 at once, the body to follow piece by piece."""
        response = StreamResponse(headers={**HEADERS, **(headers or {})})
        response.content_type = content_type
        self.started = True
        await response.prepare(self.request)
        return response

    @contextmanager
    def cancelled_when_lost(self) -> Iterator[None]:
        """Cancel the handler when its client goes away meanwhile. Only for operations that change nothing."""
        task = asyncio.current_task()
        assert task is not None
        connection = self.connection
        if connection.transport is None:
            raise ClientGoneError("client went away")
        connection.when_lost(task.cancel)
        try:
            yield
        finally:
            connection.when_lost(None)


def json_response(value: Any, status: int = 200) -> Response:
    """An answer with ``value`` as JSON, ended by a newline as Docker's are."""
    return Response(body=msgspec.json.encode(value) + b"\n", status=status, headers=HEADERS, content_type="application/json")


def empty_response(status: int = 204) -> Response:
    """An answer without a body."""
    return Response(status=status, headers=HEADERS)
