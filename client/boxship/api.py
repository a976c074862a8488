"""The daemon's API, one call at a time: versioned paths, JSON bodies, errors. The command line and the SDK build on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from boxship import __version__
from boxship.errors import APIError, BadRequest, ProtocolError, api_error
from boxship.http import address as addresses
from boxship.http.connection import Connection, Headers, Response
from boxship.http.dial import TLSFiles, dial
from boxship.http.stream import Stream
from boxship.http.target import query_string

API_VERSION = "1.51"
Query = Mapping[str, object]


class API:
    """A daemon's API. Connections are opened when needed and kept for the next call; a context manager that closes them.

    Args:
        host: the daemon's address, None for ``BOXSHIP_HOST``, ``DOCKER_HOST`` or the default.
        tls: how to speak TLS over ``tcp://``.
        version: the API version to speak; where the daemon is older, its own.

    Raises:
        InvalidAddress: the address can't be understood.
    """

    def __init__(self, host: str | None = None, tls: TLSFiles | None = None, version: str = API_VERSION) -> None:
        self.address = addresses.parse(addresses.choose(host))
        self.version = version
        self.server = ""
        self._tls = tls
        self._idle: list[Connection] = []

    def __enter__(self) -> API:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that wait for another call."""
        while self._idle:
            self._idle.pop().close()

    @property
    def is_docker(self) -> bool:
        """Whether another maker's daemon answered so far, which has no multiplexed websockets."""
        return self.server.startswith(("Docker/", "Libpod/"))

    def call(self, method: str, path: str, query: Query | None = None, body: object = None) -> Any:
        """Make a call and decode its JSON answer; None where there is none.

        Args:
            method: GET, POST, DELETE or HEAD.
            path: below the version, such as ``/containers/json``.
            query: see ``query_string``.
            body: what to send as JSON, None for nothing.

        Raises:
            APIError: the daemon refused.
            DaemonUnreachable: nobody answers.
        """
        answer = self.raw(method, path, query, None if body is None else json.dumps(body).encode())
        return json.loads(answer) if answer.strip() else None

    def call_meanwhile(
        self, method: str, path: str, query: Query | None, body: object, *, meanwhile: Callable[[], object]
    ) -> Any:
        """As ``call``, doing something else between sending the request and reading the answer.

        Args:
            method: GET, POST or DELETE.
            path: below the version.
            query: see ``query_string``.
            body: what to send as JSON.
            meanwhile: called while the daemon works; must not use this API.
        """
        headers = [("Content-Type", "application/json")]
        with self.open(method, path, query, json.dumps(body).encode(), headers, meanwhile=meanwhile) as response:
            answer = response.read()
        return json.loads(answer) if answer.strip() else None

    def raw(self, method: str, path: str, query: Query | None = None, body: bytes | None = None) -> bytes:
        """Make a call with a JSON body that is encoded already, and give the answer as it came."""
        headers = [("Content-Type", "application/json")] if body is not None else []
        with self.open(method, path, query, body, headers) as response:
            return response.read()

    def open(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: Headers | None = None,
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Response:
        """Make a call whose answer is read as it comes; ``meanwhile`` is called while the daemon works on it.

        Raises:
            APIError: the daemon refused.
            DaemonUnreachable: nobody answers.
        """
        response = self._attempt(method, path, query, body, headers, meanwhile=meanwhile)
        if response.status < 400:
            return response
        error = _error_of(response)
        if self._adopt_version(error) and (body is None or isinstance(body, bytes)):
            return self.open(method, path, query, body, headers)
        raise error

    def negotiate(self) -> tuple[int, ...]:
        """Learn the daemon's API version before a call whose body can't be sent twice; the version spoken from now on."""
        with self.open("GET", "/_ping") as response:
            response.read()
        offered = response.headers.get("api-version", "")
        if numbers(offered) < numbers(self.version):
            self.version = offered
        return numbers(self.version)

    def upgrade(
        self, path: str, query: Query, headers: Headers, method: str = "GET", body: bytes | None = None
    ) -> tuple[Stream, bytes, dict[str, str]]:
        """Turn a connection into another protocol's; the stream, the first bytes received, and the answer's headers.

        Raises:
            APIError: the daemon refused.
        """
        response = self._attempt(method, path, query, body, headers)
        if response.status >= 400:
            error = _error_of(response)
            if self._adopt_version(error):
                return self.upgrade(path, query, headers, method, body)
            raise error
        if response.status != 101:
            raise ProtocolError(f"the daemon answered {response.status} where the protocol should change")
        stream, received = response.switch()
        return stream, received, response.headers

    def _attempt(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: bytes | Iterable[bytes] | None,
        headers: Headers | None,
        *,
        meanwhile: Callable[[], object] | None = None,
    ) -> Response:
        target = f"/v{self.version}{path}"
        if query and (encoded := query_string(query)):
            target += f"?{encoded}"
        connection = self._connection()
        try:
            response = connection.request(method, target, headers, body, meanwhile)
        except BaseException:
            connection.close()
            raise
        self.server = response.headers.get("server", self.server)
        return response

    def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.stream.stale:
                return connection
            connection.close()
        host = self.address.host or "boxship"
        return Connection(dial(self.address, self._tls), host, f"Boxship-Client/{__version__} (linux)", self._idle.append)

    def _adopt_version(self, error: APIError) -> bool:
        """Fall back to the version an older daemon names in its refusal."""
        _, found, rest = str(error).partition("Maximum supported API version is ")
        if not isinstance(error, BadRequest) or not found or rest.strip() == self.version:
            return False
        self.version = rest.strip()
        return True


def _error_of(response: Response) -> APIError:
    with response:
        text = response.read().decode("utf-8", "replace").strip()
    try:
        decoded = json.loads(text)
        message = str(decoded["message"]) if isinstance(decoded, dict) and "message" in decoded else text
    except ValueError:
        message = text
    return api_error(response.status, message or f"the daemon answered with status {response.status}")


def numbers(version: str) -> tuple[int, ...]:
    """An API version as numbers to compare; one that isn't a version is newer than any."""
    parts = version.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else (1 << 30,)
