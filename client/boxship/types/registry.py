"""Registries as the API shows them.

Source: Docker Engine API v1.51, definitions AuthConfig and DistributionInspect, operations SystemAuth and ImageSearch.
"""

from __future__ import annotations

from msgspec import Struct, field

from boxship.types.images import OCIDescriptor


class AuthConfig(Struct, frozen=True, omit_defaults=True):
    """Credentials for one registry, in clients' headers and in ``SystemAuth``'s body. Some clients send nulls.

    Attributes:
        auth: a user name and a password in base64, joined by a colon.
        serveraddress: the registry they are for.
        identitytoken: a refresh token of its token server.
        registrytoken: a bearer token, to be sent as it is.
    """

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    email: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None

    def __repr__(self) -> str:
        return f"AuthConfig(username={self.username!r}, serveraddress={self.serveraddress!r})"


class AuthResponse(Struct, rename="pascal", frozen=True):
    """The answer to ``SystemAuth``; the token is to be kept instead of the password where there is one."""

    status: str
    identity_token: str = ""


class DistributionPlatform(Struct, frozen=True, omit_defaults=True):
    """A platform that an image in a registry is there for."""

    architecture: str = ""
    os: str = ""
    os_version: str = field(name="os.version", default="")
    os_features: list[str] | None = field(name="os.features", default=None)
    variant: str = ""


class DistributionInspect(Struct, rename="pascal", frozen=True):
    """The answer to ``DistributionInspect``."""

    descriptor: OCIDescriptor
    platforms: list[DistributionPlatform]


class SearchResult(Struct, frozen=True):
    """One row of ``ImageSearch``."""

    star_count: int
    is_official: bool
    name: str
    is_automated: bool
    description: str
