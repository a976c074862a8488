"""Credentials as clients hand them over, and which registry they are for.

Source: Docker Engine API v1.51, "Authentication" and AuthConfig; docker/cli config/credentials; moby daemon/pkg/registry
(``ConvertToHostname``, ``ResolveAuthConfig``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
from boxship.types.registry import AuthConfig

from boxshipd.errors import InvalidParameter
from boxshipd.images.reference import DEFAULT_DOMAIN

T = TypeVar("T")

INDEX_SERVER = "https://index.docker.io/v1/"
"""The key under which clients keep credentials for Docker Hub."""
_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"})
_HEADER_LIMIT = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who somebody is for one registry. Nothing secret is in its ``repr``.

    Attributes:
        username: and ``password``: for basic authentication, or to ask a token server with.
        identity_token: a token server's refresh token instead of a password.
        registry_token: a bearer token to be used as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.username or self.password or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` for basic authentication; empty without a user name and password."""
        if not self.username and not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


def decode_header(text: str) -> AuthConfig:
    """Read an ``X-Registry-Auth`` header: JSON in base64url, with or without its padding. Nothing given is no credentials.

    Raises:
        InvalidParameter: it isn't that.
    """
    if not text:
        return AuthConfig()
    return _decode(text, AuthConfig, "X-Registry-Auth")


def decode_all(text: str) -> dict[str, AuthConfig]:
    """Read an ``X-Registry-Config`` header: credentials by registry.

    Raises:
        InvalidParameter: it isn't that.
    """
    return _decode(text, dict[str, AuthConfig], "X-Registry-Config") if text else {}


def for_registry(config: AuthConfig, domain: str) -> Credentials:
    """The credentials of a client's ``config`` for the registry of ``domain``; none where they are for another one.

    Raises:
        InvalidParameter: its ``auth`` field isn't a user name and a password in base64.
    """
    if config.serveraddress and hostname(config.serveraddress) != hostname(domain):
        return ANONYMOUS
    username, password = config.username or "", config.password or ""
    if config.auth and not username and not password:
        username, password = _split(config.auth)
    return Credentials(username, password, config.identitytoken or "", config.registrytoken or "")


def of_registry(accounts: Mapping[str, AuthConfig], domain: str) -> AuthConfig:
    """Of a client's accounts, those that it has for the registry of ``domain``; none where it hasn't."""
    return next((config for address, config in accounts.items() if hostname(address) == hostname(domain)), AuthConfig())


def hostname(address: str) -> str:
    """The host, and port, that credentials kept under ``address`` are for; one name for all of Docker Hub's."""
    host = address.partition("://")[2] or address
    host = host.partition("/")[0].lower()
    return DEFAULT_DOMAIN if host in _HUB else host


def _split(auth: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        colon = ""
    if not colon:
        raise InvalidParameter("invalid credentials: auth must be a user name and a password in base64")
    return username, password.rstrip("\x00")


def _decode(text: str, kind: type[T], name: str) -> T:
    if len(text) > _HEADER_LIMIT:
        raise InvalidParameter(f"invalid {name} header: longer than {_HEADER_LIMIT} bytes")
    try:
        # Clients differ in the alphabet and in the padding; what is meant is always clear.
        compact = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
        data = base64.b64decode(compact + "=" * (-len(compact) % 4), altchars=b"-_", validate=True)
        if not data.strip():
            return kind()
        return msgspec.json.decode(data, type=kind)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        # The text of an error may hold a piece of what was decoded, which may be a password.
        raise InvalidParameter(f"invalid {name} header: it must be JSON in base64url ({type(error).__name__})") from None
