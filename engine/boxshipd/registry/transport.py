"""HTTP to registries: connections, TLS, proxies, redirects, and how all that fails.

What a header may hold is bounded by aiohttp's parser, what a body may by whoever reads it.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NoReturn

import aiohttp
from aiohttp import ClientResponse, ClientSession
from yarl import URL

from boxshipd import __version__
from boxshipd.registry.certificates import Certificates
from boxshipd.registry.errors import BadAnswer, Unreachable
from boxshipd.registry.hosts import Endpoint
from boxshipd.registry.own_listeners import OwnListeners
from boxshipd.registry.proxies import Proxies
from boxshipd.registry.timing import Timing

Body = bytes | Callable[[], AsyncIterator[bytes]] | None
"""What is sent: bytes, or what makes a stream of them, once for each attempt."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REDIRECT_LIMIT = 10
_BUFFER = 512 << 10
_CONNECTIONS = 64
_SLOW = 300.0
_USER_AGENT = f"boxship/{__version__}"


class Transport:
    """Connections to registries, kept for the next request. ``close`` it in the end.

    Args:
        certificates: whom TLS trusts.
        proxies: which proxies to go through.
        timing: how long things may take.
        insecure: whether a host may be spoken to without TLS that proves who it is.
        own: where the engine itself listens, which nobody is connected to.
    """

    def __init__(
        self,
        certificates: Certificates,
        proxies: Proxies,
        timing: Timing,
        insecure: Callable[[str], Awaitable[bool]],
        own: OwnListeners,
    ) -> None:
        self._own = own
        self.timing = timing
        self._certificates = certificates
        self._proxies = proxies
        self._insecure = insecure
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: URL,
        *,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        body: Body = None,
        slow: bool = False,
    ) -> AsyncIterator[ClientResponse]:
        """Send a request and give its answer, whatever its status.

        Of a GET or HEAD redirects are followed; ``Authorization`` and the endpoint's own headers go no further than the
        endpoint's scheme, host and port. ``slow`` is for what may rightly take a registry minutes to answer.

        Raises:
            Unreachable: there was no answer, or it was cut off inside the block.
            BadAnswer: a redirect that isn't followed, or no HTTP.
        """
        async with AsyncExitStack() as stack:
            for _ in range(_REDIRECT_LIMIT):
                response = await stack.enter_async_context(self._once(method, url, endpoint, headers, body, slow))
                if response.status not in _REDIRECTS:
                    yield response
                    return
                target = _target(method, url, response)
                await stack.aclose()
                url = target
            raise BadAnswer(f"{_named(method, url)}: stopped after {_REDIRECT_LIMIT} redirects")

    @asynccontextmanager
    async def _once(  # noqa: PLR0917 - a request's parts
        self, method: str, url: URL, endpoint: Endpoint, headers: Mapping[str, str], body: Body, slow: bool
    ) -> AsyncIterator[ClientResponse]:
        home = url.origin() == endpoint.origin
        sent = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(endpoint.headers if home else {}), **headers}
        if not home:
            sent.pop("Authorization", None)
        context = await self._context(method, url, endpoint, home)
        proxy = self._proxies.for_url(url)
        with _translated(method, url):
            async with self._open().request(
                method,
                url,
                headers=sent,
                data=body() if callable(body) else body,
                allow_redirects=False,
                ssl=context if context is not None else True,
                proxy=proxy,
                timeout=self._timeout(slow),
            ) as response:
                yield response

    async def _context(self, method: str, url: URL, endpoint: Endpoint, home: bool) -> ssl.SSLContext | None:
        """The TLS context for one request; None for plain HTTP, which must be allowed."""
        if home:
            if url.scheme == "http":
                return None
            return await self._certificates.context(endpoint.certificates, verify=endpoint.verify, ca=endpoint.ca)
        host = url.authority
        if url.scheme == "http":
            if endpoint.origin.scheme == "https" and not await self._insecure(host):
                raise BadAnswer(f"{_named(method, url)}: redirected from TLS to plain HTTP, which isn't followed")
            return None
        verify = not await self._insecure(host)
        return await self._certificates.context(host, verify=verify, sent_by=endpoint.certificates)

    def _open(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ttl_dns_cache=30, socket_factory=self._own.connector),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=_BUFFER,
            )
        return self._session

    def _timeout(self, slow: bool) -> aiohttp.ClientTimeout:
        stall = max(_SLOW, self.timing.stall) if slow else self.timing.stall
        return aiohttp.ClientTimeout(total=None, connect=None, sock_connect=self.timing.connect, sock_read=stall)

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class _translated:  # noqa: N801 - reads as a statement
    """Turn aiohttp's errors into ours, which say what was being done."""

    def __init__(self, method: str, url: URL) -> None:
        self._method = method
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (aiohttp.ClientError, TimeoutError, ssl.SSLError, ConnectionError)):
            _raise(self._method, self._url, error)


def _raise(method: str, url: URL, error: Exception) -> NoReturn:
    said = f"{_named(method, url)}: "
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        cause = getattr(error, "certificate_error", error)
        reason = getattr(cause, "verify_message", "") or str(cause)
        raise Unreachable(f"{said}tls: failed to verify certificate: {reason}", fatal=True, plain=True) from error
    if isinstance(error, (aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        raise Unreachable(f"{said}no TLS to be had there: {_reason(error)}", fatal=True, plain=True) from error
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        raise Unreachable(f"{said}proxyconnect: {_reason(error)}") from error
    if isinstance(error, aiohttp.ClientHttpProxyError):
        raise Unreachable(f"{said}proxyconnect: the proxy answered {error.status} {error.message}", fatal=True) from error
    if isinstance(error, aiohttp.ClientConnectorError):
        raise Unreachable(f"{said}dial tcp {error.host}:{error.port}: {_reason(error)}", fatal=True, plain=True) from error
    if isinstance(error, (aiohttp.ConnectionTimeoutError,)):
        raise Unreachable(f"{said}no connection in time", plain=True) from error
    if isinstance(error, TimeoutError):
        raise Unreachable(f"{said}the transfer has stalled") from error
    if isinstance(error, aiohttp.ServerDisconnectedError):
        raise Unreachable(f"{said}EOF") from error
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ClientOSError, ConnectionError)):
        raise Unreachable(f"{said}unexpected EOF ({_reason(error)})") from error
    raise BadAnswer(f"{said}{_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error is not None:
        inner = error.os_error
        # Event loops word it differently; the number is the same.
        return os.strerror(inner.errno).lower() if inner.errno and inner.errno > 0 else str(inner)
    if isinstance(error, aiohttp.ClientResponseError):
        return f"malformed HTTP response: {error.message}"[:300]
    return str(error)[:300] or type(error).__name__


def _named(method: str, url: URL) -> str:
    """A request for a message; what is in the query may be secret."""
    return f'{method.capitalize()} "{url.with_query(None).with_user(None)}"'


def _target(method: str, url: URL, response: ClientResponse) -> URL:
    location = response.headers.get("Location", "")
    if method not in ("GET", "HEAD"):
        raise BadAnswer(f"{_named(method, url)}: answered by a redirect, which isn't followed for it")
    try:
        target = url.join(URL(location, encoded=True))
    except ValueError:
        raise BadAnswer(f"{_named(method, url)}: redirected to what isn't an address") from None
    if not location or target.scheme not in ("http", "https") or not target.host:
        raise BadAnswer(f"{_named(method, url)}: redirected to what isn't an address")
    return target.with_user(None)


async def read_bounded(response: ClientResponse, limit: int, what: str) -> bytes:
    """The whole body of an answer.

    Raises:
        BadAnswer: it is longer than ``limit`` bytes.
    """
    if (response.content_length or 0) > limit:
        raise BadAnswer(f"{what} has {response.content_length} bytes, more than the {limit} allowed")
    pieces: list[bytes] = []
    length = 0
    while piece := await response.content.readany():
        pieces.append(piece)
        length += len(piece)
        if length > limit:
            raise BadAnswer(f"{what} has more than the {limit} bytes allowed")
    return b"".join(pieces)
