"""Which versions of the Engine API are spoken, and how a request asks for one.

Source: Docker Engine API v1.51, "Versioning"; Docker answers a version outside its range with 400 and says which it has.
"""

from __future__ import annotations

from boxshipd import __version__
from boxshipd.errors import InvalidParameter

ApiVersion = tuple[int, int]

NEWEST: ApiVersion = (1, 51)
OLDEST: ApiVersion = (1, 24)
NEWEST_TEXT = "1.51"
OLDEST_TEXT = "1.24"

HEADERS = {
    "Api-Version": NEWEST_TEXT,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"Boxship/{__version__} (linux)",
}
"""What every answer carries, whatever it says."""


def split_version(path: str) -> tuple[ApiVersion, str]:
    """Separate a request's path into the version it asks for and the rest.

    Args:
        path: the decoded path, such as ``/v1.43/containers/json`` or ``/containers/json``.

    Returns:
        The version (the newest where none is asked for) and the path without it.

    Raises:
        InvalidParameter: the version is outside what is spoken here.
    """
    if not path.startswith("/v"):
        return NEWEST, path
    text, slash, rest = path[2:].partition("/")
    numbers = text.split(".")
    if not slash or not all(number.isascii() and number.isdigit() and len(number) < 6 for number in numbers):
        return NEWEST, path
    version = (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0)
    if version < OLDEST:
        raise InvalidParameter(
            f"client version {text} is too old. Minimum supported API version is {OLDEST_TEXT}, "
            "please upgrade your client to a newer version"
        )
    if version > NEWEST:
        raise InvalidParameter(f"client version {text} is too new. Maximum supported API version is {NEWEST_TEXT}")
    return version, "/" + rest
