"""Building over HTTP: ``/build`` with Docker's parameters and answers, and the same with our own.

Source: Docker Engine API v1.51, ImageBuild and BuildPrune; moby daemon/server/router/build (build_routes.go).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from aiohttp.http_websocket import WSCloseCode, WSMsgType
from aiohttp.web_response import StreamResponse
from boxship.types.build import BuildProgress
from boxship.types.build_request import BuildRequest, BuildResult
from boxship.types.build_session import CHUNK
from boxship.types.images import ProgressMessage

from boxshipd.api import websocket
from boxshipd.api.build_parameters import classic_request
from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.api.connection import ClientGoneError
from boxshipd.api.jsonstream import document
from boxshipd.builder.boxship_view import BoxshipView
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.builder.classic import ClassicView
from boxshipd.builder.plan import Plan
from boxshipd.builder.session import Session
from boxshipd.builder.sessions import BodySession, SessionRegistry
from boxshipd.errors import DaemonError, InvalidParameter, NotImplementedHere
from boxshipd.filters import Filters
from boxshipd.registry.credentials import decode_all

if TYPE_CHECKING:
    from boxshipd.builder.run import Outcome
    from boxshipd.builder.service import Builder

logger = logging.getLogger(__name__)

OURS = "boxship"
"""The ``version`` with which a client asks for our own request and answer."""

_HEARTBEAT = 30.0
"""Seconds after which a session's client that says nothing is asked whether it is still there."""
_FRAME_LIMIT = CHUNK + 4096


class _View(Protocol):
    """Puts what happens into messages."""

    def plan(self, plan: Plan) -> list[ProgressMessage]: ...

    def progress(self, progress: BuildProgress) -> list[ProgressMessage]: ...

    def success(self, result: BuildResult, tags: list[str]) -> list[ProgressMessage]: ...

    def failure(self, error: Exception) -> list[ProgressMessage]: ...

    def is_refusal(self, error: Exception) -> bool: ...


class BuildOperations:
    """The operations on builds."""

    def __init__(self, builder: Builder, sessions: SessionRegistry) -> None:
        self._builder = builder
        self._sessions = sessions

    async def build(self, call: Call) -> StreamResponse:
        """ImageBuild. The build ends when its client goes away."""
        version = call.query.text("version")
        with call.cancelled_when_lost():
            if version == OURS:
                return await self._build_ours(call)
            if version == "2":
                raise NotImplementedHere(
                    'version=2 (BuildKit\'s API) is not supported: build with DOCKER_BUILDKIT=0, or with "boxship build"'
                )
            if version not in ("", "1"):
                raise InvalidParameter(f'invalid version "{version}"')
            request = classic_request(call.query)
            return await self._run(call, request, BodySession(_body(call)), ClassicView(quiet=request.quiet))

    async def _build_ours(self, call: Call) -> StreamResponse:
        request = await call.json(BuildRequest)
        name = call.query.text("session")
        session = await self._sessions.find(name) if name else BodySession()
        return await self._run(call, request, session, BoxshipView())

    async def _run(self, call: Call, request: BuildRequest, session: Session, view: _View) -> StreamResponse:
        """Build, and tell of it. What is wrong with the request is an answer with its status, everything else in the stream."""
        accounts = _accounts(call)
        response: StreamResponse | None = None
        async with aclosing(self._builder.build(request, session, accounts)) as told:
            try:
                async for what in told:
                    response = await _write(call, response, _messages(view, what))
            except DaemonError as error:
                if response is None and view.is_refusal(error):
                    raise
                response = await _write(call, response, view.failure(error))
        return response or await call.open_stream("application/json")

    async def cancel(self, call: Call) -> StreamResponse:
        """BuildCancel: end the build of an id; nothing is said about one that isn't there, as with Docker."""
        build_id = call.query.text("id")
        if not build_id:
            raise InvalidParameter("build ID not provided")
        self._builder.cancel(build_id)
        return empty_response(200)

    async def prune(self, call: Call) -> StreamResponse:
        """BuildPrune. ``keep-storage`` is what ``reserved-space`` was called before API 1.48."""
        query = call.query
        options = PruneOptions(
            everything=query.boolean("all"),
            reserved_space=_bytes(call, "reserved-space") or _bytes(call, "keep-storage"),
            max_used_space=_bytes(call, "max-used-space"),
            min_free_space=_bytes(call, "min-free-space"),
            filters=Filters.parse(query.text("filters")),
        )
        return json_response(await self._builder.prune(options))

    async def session(self, call: Call) -> StreamResponse:
        """BuildSession: the client's side of a build, over a websocket, until either ends it."""
        from aiohttp.web_ws import WebSocketResponse

        websocket.accept(call.request.headers)
        session_id = call.query.text("id")
        self._sessions.check(session_id)
        response = WebSocketResponse(compress=False, heartbeat=_HEARTBEAT, max_msg_size=_FRAME_LIMIT)
        with call.cancelled_when_lost():
            call.started = True
            await response.prepare(call.request)
            try:
                async with self._sessions.joined(session_id, response.send_bytes) as streams:
                    async for message in response:
                        if message.type is not WSMsgType.BINARY:
                            raise InvalidParameter("a build session's messages are binary")
                        streams.received(message.data)
            except DaemonError as error:
                await response.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode()[:120])
        return response


def _accounts(call: Call) -> str:
    """The registry accounts that a request brings. As with Docker, what can't be read is as good as none."""
    header = call.request.headers.get("X-Registry-Config", "")
    try:
        decode_all(header)
    except InvalidParameter as error:
        logger.warning("registry accounts are ignored: %s", error)
        return ""
    return header


def _messages(view: _View, what: BuildProgress | Plan | Outcome) -> list[ProgressMessage]:
    if isinstance(what, BuildProgress):
        return view.progress(what)
    if isinstance(what, Plan):
        return view.plan(what)
    return view.success(what.result, [name.familiar for name in what.names])


async def _write(call: Call, response: StreamResponse | None, messages: list[ProgressMessage]) -> StreamResponse | None:
    """Send messages; the answer begins with the first of them."""
    if not messages:
        return response
    if response is None:
        response = await call.open_stream("application/json")
    await response.write(b"".join(document(message, b"\r\n") for message in messages))
    return response


async def _body(call: Call) -> AsyncIterator[bytes]:
    """The request's body.

    Raises:
        ClientGoneError: it is cut off.
    """
    try:
        async for piece in call.chunks():
            yield piece
    except (ConnectionError, asyncio.IncompleteReadError) as error:
        raise ClientGoneError("client went away before it had sent the whole context") from error


def _bytes(call: Call, name: str) -> int:
    """A number of bytes; 0 where it isn't given.

    Raises:
        InvalidParameter: it isn't a number.
    """
    text = call.query.text(name)
    try:
        return int(text) if text else 0
    except ValueError:
        raise InvalidParameter(f"{name} is in bytes and expects an integer, got {text}: invalid syntax") from None
