"""An account at a registry, and the form in which the daemon takes it."""

from __future__ import annotations

import json
from binascii import b2a_base64
from typing import NamedTuple

from boxship.references import DEFAULT_DOMAIN

HUB_KEY = "https://index.docker.io/v1/"
"""What Docker Hub's account is kept under, for reasons of history."""
HEADER = "X-Registry-Auth"


class Account(NamedTuple):
    """An account at a registry.

    Attributes:
        server: what it is kept under: a registry's host and port, or ``HUB_KEY``.
        username: the user's name, empty with a token.
        password: the password or personal access token.
        identity_token: a refresh token that stands for name and password.
        registry_token: a bearer token for the registry itself.
    """

    server: str = ""
    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def body(self) -> dict[str, str]:
        """The account as the API's AuthConfig, without what is empty."""
        values = {
            "username": self.username,
            "password": self.password,
            "serveraddress": self.server,
            "identitytoken": self.identity_token,
            "registrytoken": self.registry_token,
        }
        return {name: value for name, value in values.items() if value}

    def header(self) -> tuple[str, str]:
        """The header that carries it to the daemon: JSON in the URL-safe alphabet of RFC 4648, section 5."""
        return HEADER, encoded(self.body())


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def encoded(value: object) -> str:
    """A value as headers carry it: JSON in the URL-safe alphabet of RFC 4648, section 5."""
    return b2a_base64(json.dumps(value, separators=(",", ":")).encode(), newline=False).translate(_URL_SAFE).decode()


def key_of(domain: str) -> str:
    """What a registry's account is kept under."""
    return HUB_KEY if domain in (DEFAULT_DOMAIN, "index.docker.io") else domain


def hostname(server: str) -> str:
    """A registry's host and port, whatever way its address was written: ``https://registry.example/v1/``."""
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]
