"""``docker login``: whether a registry takes somebody's credentials.

Source: Docker Engine API v1.51, SystemAuth; moby daemon/pkg/registry (service.go ``Auth``, auth.go ``loginV2``).
"""

from __future__ import annotations

from boxship.types.registry import AuthConfig, AuthResponse
from yarl import URL

from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.reference import DEFAULT_DOMAIN, Reference
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import for_registry, hostname
from boxshipd.registry.errors import AccessDenied, LoginFailed
from boxshipd.registry.timing import retrying


async def login(client: RegistryClient, config: AuthConfig) -> AuthResponse:
    """Try credentials out.

    Args:
        client: the connections.
        config: the credentials with the registry they are for; Docker Hub where none is named.

    Raises:
        LoginFailed: the registry doesn't take them.
        InvalidParameter: that can't be a registry.
        RegistryError: it can't be asked.
    """
    domain = hostname(config.serveraddress) if config.serveraddress else DEFAULT_DOMAIN
    try:
        reference.parse(f"{domain}/x")
    except InvalidParameter:
        raise InvalidParameter(f"invalid registry address {config.serveraddress!r}") from None
    credentials = for_registry(config, domain)
    repository = await client.unremembered(Reference(domain, "x"), credentials)
    # The API's root, which is in no repository.
    root = URL(f"{repository.endpoint.root.path}/")

    async def attempt() -> str:
        async with repository.request("GET", root, scopes=()):
            return await repository.authorizer.login()

    try:
        token = await retrying(attempt, repository.timing)
    except AccessDenied as error:
        said = str(error).removeprefix("unauthorized: ")
        raise LoginFailed(f'Get "{repository.endpoint.root}/": unauthorized: {said}') from None
    return AuthResponse("Login Succeeded", token)
