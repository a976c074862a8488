"""Authentication: what a registry asks for is given to it, and to nobody else.

A registry answers 401 with a challenge. For ``Basic`` the credentials go to the registry itself, for ``Bearer`` to the token
server it names (its *realm*), whose token then goes to the registry. Only challenges of the endpoint itself are heard, never
those of a host that it redirects to.
Source: distribution docs/spec/auth/{token,oauth}.md; moby daemon/pkg/registry/auth.go.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

import msgspec
from aiohttp import ClientResponse
from msgspec import Struct
from yarl import URL

from boxshipd.registry import challenge
from boxshipd.registry.answers import refusal
from boxshipd.registry.challenge import Challenge
from boxshipd.registry.credentials import Credentials
from boxshipd.registry.errors import AccessDenied, BadAnswer, RegistryError
from boxshipd.registry.hosts import Endpoint
from boxshipd.registry.timing import retrying
from boxshipd.registry.transport import Transport, read_bounded

CLIENT_ID = "boxship"
_ANSWER_LIMIT = 1 << 20
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}")
_SHORTEST_LIFE = 60
_LEEWAY = 0.1
_REMEMBERED = 512


class _TokenAnswer(Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None
    refresh_token: str | None = None
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token, until when it may be used (of the monotonic clock), and what to ask for the next one with."""

    value: str = field(repr=False)
    expires: float
    refresh: str = field(default="", repr=False)


_Key = tuple[str, str, tuple[str, ...], Credentials]


class Memory:
    """The challenges and tokens of earlier requests, in memory only, so that most requests are answered at once."""

    def __init__(self) -> None:
        self._challenges: OrderedDict[str, Challenge] = OrderedDict()
        self._tokens: OrderedDict[_Key, Token] = OrderedDict()

    def challenge(self, origin: URL) -> Challenge | None:
        """What a host has asked for last."""
        return self._challenges.get(str(origin))

    def heard(self, origin: URL, asked: Challenge) -> None:
        """Remember what a host asks for."""
        _put(self._challenges, str(origin), asked)

    def unheard(self, origin: URL) -> None:
        """Forget what a host asks for."""
        self._challenges.pop(str(origin), None)

    def token(self, key: _Key) -> Token | None:
        """A token that is still good."""
        token = self._tokens.get(key)
        return token if token is not None and token.expires > time.monotonic() else None

    def got(self, key: _Key, token: Token) -> None:
        """Remember a token."""
        _put(self._tokens, key, token)

    def drop(self, key: _Key) -> None:
        """Forget a token that wasn't taken."""
        self._tokens.pop(key, None)


def _put(kept: OrderedDict[str, Challenge] | OrderedDict[_Key, Token], key: object, value: object) -> None:
    kept[key] = value  # type: ignore[index,assignment]
    if len(kept) > _REMEMBERED:
        kept.popitem(last=False)


class Authorizer:
    """Says who we are, to one endpoint.

    Args:
        transport: to ask token servers over.
        endpoint: whom the credentials are for.
        credentials: whose work it is; none for a mirror.
        memory: of all authorizers.
        insecure: whether a host may be asked without TLS.
    """

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        credentials: Credentials,
        memory: Memory,
        insecure: Callable[[str], Awaitable[bool]],
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._credentials = credentials
        self._memory = memory
        self._insecure = insecure
        self._lock = asyncio.Lock()

    async def header(self, scopes: Sequence[str]) -> str:
        """The value of ``Authorization`` as far as it is known what the endpoint wants; else empty.

        Raises:
            AccessDenied: the token server refuses.
        """
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        asked = self._memory.challenge(self.endpoint.origin)
        if asked is None:
            return ""
        if asked.scheme == "basic":
            return self._credentials.basic
        # One at a time: what the first has got is good for the others.
        async with self._lock:
            try:
                return f"Bearer {(await self._token(asked, scopes)).value}"
            except RegistryError:
                # Next time the registry is heard again, which may have changed its mind about whom to ask.
                self._memory.unheard(self.endpoint.origin)
                raise

    async def challenged(self, response: ClientResponse, sent: str, scopes: Sequence[str]) -> bool:
        """Take note of a 401; whether it is worth asking again, since there is something else to say than ``sent``.

        Raises:
            BadAnswer: what is asked for can't be understood.
        """
        if response.url.origin() != self.endpoint.origin or self._credentials.registry_token:
            return False
        asked = _preferred(challenge.parse(response.headers.getall("WWW-Authenticate", ())))
        if asked is None:
            return False
        self._memory.heard(self.endpoint.origin, asked)
        if asked.scheme == "basic":
            return bool(self._credentials.basic) and sent != self._credentials.basic
        key = self._key(asked, scopes)
        known = self._memory.token(key)
        if known is not None and sent == f"Bearer {known.value}":
            self._memory.drop(key)
        return True

    def missing(self) -> str:
        """Why a 401 is final, where we have nothing to say who we are with."""
        asked = self._memory.challenge(self.endpoint.origin)
        if asked is not None and asked.scheme == "basic" and not self._credentials.basic:
            return "no basic auth credentials"
        return ""

    async def login(self, scopes: Sequence[str] = ()) -> str:
        """Ask the token server for a token to keep instead of the password; empty where there is none to be had.

        Raises:
            AccessDenied: the credentials are wrong.
        """
        asked = self._memory.challenge(self.endpoint.origin)
        if asked is None or asked.scheme != "bearer":
            return ""
        token = await self._fetch(asked, scopes, offline=True)
        self._memory.got(self._key(asked, scopes), token)
        return token.refresh

    def _key(self, asked: Challenge, scopes: Sequence[str]) -> _Key:
        return asked.parameters.get("realm", ""), asked.parameters.get("service", ""), tuple(scopes), self._credentials

    async def _token(self, asked: Challenge, scopes: Sequence[str]) -> Token:
        key = self._key(asked, scopes)
        token = self._memory.token(key)
        if token is None:
            token = await self._fetch(asked, scopes)
            self._memory.got(key, token)
        return token

    async def _fetch(self, asked: Challenge, scopes: Sequence[str], offline: bool = False) -> Token:
        realm = await self._realm(asked)
        service = asked.parameters.get("service", "")
        secure = realm.scheme == "https" and not await self._insecure(realm.authority)
        server = Endpoint(realm, "", realm.authority, verify=secure)
        if self._credentials.identity_token:
            return await retrying(lambda: self._refreshed(server, service, scopes), self._transport.timing)
        query = [("service", service)] if service else []
        query += [("client_id", CLIENT_ID), *(("scope", scope) for scope in scopes)]
        if self._credentials.username:
            query.append(("account", self._credentials.username))
        if offline:
            query.append(("offline_token", "true"))
        url = realm.update_query(query) if not realm.query else realm.extend_query(query)
        headers = {"Authorization": self._credentials.basic} if self._credentials.basic else {}

        async def get() -> Token:
            async with self._transport.send("GET", url, endpoint=server, headers=headers) as response:
                return await _read_token(response, realm)

        return await retrying(get, self._transport.timing)

    async def _refreshed(self, server: Endpoint, service: str, scopes: Sequence[str]) -> Token:
        """A token for the identity token we have."""
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": self._credentials.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form).encode()
        async with self._transport.send("POST", server.root, endpoint=server, headers=headers, body=body) as response:
            return await _read_token(response, server.root)

    async def _realm(self, asked: Challenge) -> URL:
        """The token server's address.

        Raises:
            BadAnswer: it isn't one, or would have us give away in the clear what the registry itself gets encrypted.
        """
        text = asked.parameters.get("realm", "")
        try:
            realm = URL(text)
        except ValueError:
            realm = URL()
        if realm.scheme not in ("http", "https") or not realm.host or realm.user is not None or realm.fragment:
            raise BadAnswer(f"registry {self.endpoint.certificates} names a token server that can't be one")
        if realm.scheme == "http" and self.endpoint.origin.scheme == "https" and not await self._insecure(realm.authority):
            raise BadAnswer(
                f"registry {self.endpoint.certificates} names the token server {realm.origin()}, which would be asked "
                "without TLS; add it to insecure-registries if that is meant"
            )
        return realm


def _preferred(asked: Sequence[Challenge]) -> Challenge | None:
    for scheme in ("bearer", "basic"):
        for candidate in asked:
            if candidate.scheme == scheme:
                return candidate
    return None


async def _read_token(response: ClientResponse, realm: URL) -> Token:
    if response.status != 200:
        error = await refusal(response, f"token server {realm.origin()}")
        if isinstance(error, AccessDenied):
            raise AccessDenied(f"unauthorized: {str(error).removeprefix('unauthorized: ')}", error.status, error.code)
        raise error
    if response.url.origin() != realm.origin():
        raise BadAnswer(f"token server {realm.origin()} answers by a redirect to another host")
    try:
        answer = msgspec.json.decode(await read_bounded(response, _ANSWER_LIMIT, "token"), type=_TokenAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadAnswer(f"token server {realm.origin()} gives no token that can be understood") from None
    value = answer.token or answer.access_token or ""
    if not _TOKEN.fullmatch(value):
        raise BadAnswer(f"token server {realm.origin()} gives no token that can be used")
    life = max(answer.expires_in or 0, _SHORTEST_LIFE)
    return Token(value, time.monotonic() + life * (1 - _LEEWAY), answer.refresh_token or "")
