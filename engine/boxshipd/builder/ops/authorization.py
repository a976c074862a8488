"""What a client's secrets have to say to a host: the ``Authorization`` header of requests to it.

Sources: BuildKit source/http/source.go (newHTTPRequest), source/git/source.go (getAuthToken).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from boxshipd.builder.session import Session
from boxshipd.errors import InvalidParameter, NotFound

_Form = Callable[[str], str]


async def of_repository(remote: str, session: Session) -> str:
    """For git: ``GIT_AUTH_HEADER`` or ``GIT_AUTH_TOKEN``, first those for the host alone (``GIT_AUTH_TOKEN.host``).

    Returns:
        The header's value; empty for none.

    Raises:
        InvalidParameter: a secret can't be a header.
    """
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https"):
        return ""
    host = parts.netloc.rpartition("@")[2]
    forms: tuple[tuple[str, _Form], ...] = (("GIT_AUTH_HEADER", str), ("GIT_AUTH_TOKEN", _basic))
    return await _first(session, [*((f"{name}.{host}", form) for name, form in forms), *forms])


async def of_url(host: str, session: Session) -> str:
    """For files: ``HTTP_AUTH_TOKEN_host`` or ``HTTP_AUTH_HEADER_host``.

    Args:
        host: the host's name, without a port.
        session: the client's side.

    Returns:
        The header's value; empty for none.

    Raises:
        InvalidParameter: a secret can't be a header.
    """
    return await _first(session, [(f"HTTP_AUTH_TOKEN_{host}", _bearer), (f"HTTP_AUTH_HEADER_{host}", str)])


async def _first(session: Session, names: Sequence[tuple[str, _Form]]) -> str:
    """The first secret that there is, in its form."""
    for name, form in names:
        try:
            secret = (await session.secret(name)).strip()
        except NotFound:
            continue
        try:
            value = form(secret.decode())
        except UnicodeDecodeError:
            raise InvalidParameter(f"secret {name} can't be a header") from None
        if set(value) & {"\n", "\r", "\0"}:
            raise InvalidParameter(f"secret {name} can't be a header")
        return value
    return ""


def _basic(token: str) -> str:
    return f"basic {base64.b64encode(f'x-access-token:{token}'.encode()).decode()}"


def _bearer(token: str) -> str:
    return f"Bearer {token}"
