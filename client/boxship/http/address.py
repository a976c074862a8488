"""Where the daemon listens: ``unix://``, ``tcp://``, ``ssh://`` and which of them to use."""

from __future__ import annotations

import os
from collections.abc import Mapping

from boxship.errors import InvalidAddress

DEFAULT_ADDRESS = "unix:///var/run/boxship.sock"
HTTP_PORT = 2375
HTTPS_PORT = 2376


class Address:
    """A daemon's address.

    Attributes:
        text: the address as it was given.
        scheme: ``unix``, ``tcp`` or ``ssh``.
        path: the socket's path (``unix``), or its path at the far end (``ssh``, empty for that machine's default).
        host: the host's name or address (``tcp``, ``ssh``).
        port: the port, 0 for the scheme's default.
        user: the login name (``ssh``), empty for ssh's own choice.
    """

    __slots__ = ("host", "path", "port", "scheme", "text", "user")

    def __init__(self, text: str, scheme: str, *, path: str = "", host: str = "", port: int = 0, user: str = "") -> None:
        self.text = text
        self.scheme = scheme
        self.path = path
        self.host = host
        self.port = port
        self.user = user


def choose(given: str | None, environment: Mapping[str, str] | None = None) -> str:
    """The address to use: the one given, else ``BOXSHIP_HOST``, else ``DOCKER_HOST``, else the default."""
    env = os.environ if environment is None else environment
    return given or env.get("BOXSHIP_HOST") or env.get("DOCKER_HOST") or DEFAULT_ADDRESS


def parse(text: str) -> Address:
    """Parse an address.

    Args:
        text: ``unix:///path``, ``/path``, ``tcp://host[:port]``, ``http://…``, ``https://…`` or ``ssh://[user@]host[:port][/path]``.

    Raises:
        InvalidAddress: it is none of these.
    """
    if text.startswith("/"):
        return Address(f"unix://{text}", "unix", path=text)
    scheme, separator, rest = text.partition("://")
    if not separator or not rest:
        raise InvalidAddress(f"invalid daemon address {text!r}: expected unix://, tcp:// or ssh://")
    if scheme == "unix":
        return Address(text, "unix", path=rest)
    if scheme in ("tcp", "http", "https"):
        host, port = _host_and_port(text, rest.rstrip("/"))
        return Address(text, "tcp", host=host, port=port)
    if scheme == "ssh":
        login, slash, path = rest.partition("/")
        user, at, place = login.rpartition("@")
        host, port = _host_and_port(text, place)
        # ssh reads a leading dash as an option, which could run a program on this machine.
        if host.startswith("-") or user.startswith("-"):
            raise InvalidAddress(f"invalid daemon address {text!r}: host and user must not begin with a dash")
        return Address(text, "ssh", host=host, port=port, user=user if at else "", path=slash + path if path else "")
    raise InvalidAddress(f"invalid daemon address {text!r}: unknown scheme {scheme!r}, expected unix, tcp or ssh")


def _host_and_port(text: str, place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else ""
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidAddress(f"invalid daemon address {text!r}: unbalanced brackets")
    elif place.count(":") > 1:
        raise InvalidAddress(f"invalid daemon address {text!r}: an IPv6 address needs brackets")
    else:
        host, _, port = place.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise InvalidAddress(f"invalid daemon address {text!r}: expected host[:port]")
    return host, int(port or 0)
