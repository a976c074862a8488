"""One repository at one place: every request to it, with its authentication.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import ClientResponse
from yarl import URL

from boxshipd.registry.answers import refusal
from boxshipd.registry.auth import Authorizer
from boxshipd.registry.errors import AccessDenied, BadAnswer, Unreachable
from boxshipd.registry.hosts import Endpoint
from boxshipd.registry.timing import Timing
from boxshipd.registry.transport import Body, Transport

_ATTEMPTS = 3
"""How often one request is sent in all: without a token, with one, and with a new one where that has run out."""


class Repository:
    """A repository at an endpoint, for one client's work.

    Args:
        transport: the connections.
        authorizer: says who we are; its endpoint is where the repository is.
        plain: hosts found to speak HTTP without TLS; shared by all repositories.

    Attributes:
        authorizer: see above.
    """

    def __init__(self, transport: Transport, authorizer: Authorizer, plain: set[str]) -> None:
        self._transport = transport
        self.authorizer = authorizer
        self._plain = plain
        if self.endpoint.plain and self.endpoint.certificates in plain:
            self._without_tls()

    @property
    def endpoint(self) -> Endpoint:
        """Where it is."""
        return self.authorizer.endpoint

    @property
    def name(self) -> str:
        """Its name there."""
        return self.endpoint.repository

    @property
    def timing(self) -> Timing:
        """How long things may take."""
        return self._transport.timing

    def scope(self, *actions: str, repository: str = "") -> str:
        """What a token for some actions has to allow. Source: distribution docs/spec/auth/scope.md."""
        return f"repository:{repository or self.name}:{','.join(actions)}"

    @asynccontextmanager
    async def request(
        self,
        method: str,
        target: str | URL,
        *,
        accept: Sequence[int] = (200,),
        scopes: Sequence[str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        slow: bool = False,
    ) -> AsyncIterator[ClientResponse]:
        """Send a request; the answer has one of the statuses in ``accept``.

        Args:
            method: of HTTP.
            target: what follows the repository's name in the path, or a URL, relative to the API's root where it isn't whole.
            accept: statuses that are no error.
            scopes: what has to be allowed; pulling from this repository by default.
            headers: further ones.
            body: what to send.
            slow: whether the answer may take the registry minutes.

        Raises:
            Unreachable: there is no answer.
            Refused: the status is another one.
            BadAnswer: the answer makes no sense.
        """
        scopes = (self.scope("pull"),) if scopes is None else scopes
        tried_plain = False
        attempt = 0
        while True:
            attempt += 1
            url = self._url(target)
            home = url.origin() == self.endpoint.origin
            try:
                authorization = await self.authorizer.header(scopes) if home else ""
                sent = {**(headers or {}), **({"Authorization": authorization} if authorization else {})}
                sending = self._transport.send(method, url, endpoint=self.endpoint, headers=sent, body=body, slow=slow)
                # Only what comes before the answer is tried again here: what comes after it is the caller's.
                response = await sending.__aenter__()
            except Unreachable as error:
                # Of several requests at a time, one may have found out already.
                if not (error.plain and self.endpoint.plain and home and url.scheme == "https") or tried_plain:
                    raise
                tried_plain = True
                self._without_tls()
                continue
            async with _entered(sending):
                if (
                    response.status == 401
                    and attempt < _ATTEMPTS
                    and await self.authorizer.challenged(response, authorization, scopes)
                ):
                    continue
                if response.status not in accept:
                    raise self._final(await refusal(response, f"{method} {url.path}"))
                if self.endpoint.origin.scheme == "http" and self.endpoint.plain:
                    self._plain.add(self.endpoint.certificates)
                yield response
                return

    def _final(self, error: Exception) -> Exception:
        missing = self.authorizer.missing() if isinstance(error, AccessDenied) and error.status == 401 else ""
        if missing and isinstance(error, AccessDenied):
            return AccessDenied(f"{self.endpoint.certificates}: {missing}", error.status, error.code)
        return error

    def _url(self, target: str | URL) -> URL:
        if isinstance(target, str):
            url = URL(f"{self.endpoint.root}/{self.name}/{target}", encoded=True)
        else:
            url = self.endpoint.root.join(target)
            if url.scheme not in ("http", "https") or not url.host:
                raise BadAnswer(f"registry {self.endpoint.certificates} names a location that isn't an address")
            # Whoever names a place doesn't say who we are there.
            url = url.with_user(None)
            if url.scheme == "http" and self.endpoint.origin.scheme == "https":
                if url.authority != self.endpoint.origin.authority:
                    raise BadAnswer(f"registry {self.endpoint.certificates} names a location without TLS")
                # Registries behind a proxy that ends TLS don't know that there is any.
                url = url.with_scheme("https")
        if self.endpoint.namespace and url.origin() == self.endpoint.origin:
            url = url.update_query({"ns": self.endpoint.namespace})
        return url

    def _without_tls(self) -> None:
        self.authorizer.endpoint = replace(self.endpoint, root=self.endpoint.root.with_scheme("http"))


class _entered:  # noqa: N801 - reads as a statement
    """The rest of a context manager that has been entered already."""

    def __init__(self, manager: object) -> None:
        self._manager = manager

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._manager.__aexit__(*error)  # type: ignore[attr-defined,no-any-return]
