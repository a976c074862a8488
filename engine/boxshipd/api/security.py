"""Keeping web pages away from listeners that a browser can reach.

A page on any site can make its visitor's browser send requests to ``127.0.0.1``, and a name that is rebound to an address
here makes the page "same origin" with us. So on TCP: without TLS the Host header must be an address, ``localhost`` or a
name of this machine (a rebound name is none of these); with TLS the certificate already binds the name. An Origin header,
which browsers add to everything that could have an effect and to every websocket, must match the Host. No CORS header is
ever answered.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from aiohttp.web_request import BaseRequest

from boxshipd.errors import Forbidden


def _machine_names() -> frozenset[str]:
    name = socket.gethostname().lower()
    return frozenset({"localhost", name, name.partition(".")[0]})


@dataclass(frozen=True)
class BrowserGuard:
    """The checks of one TCP listener.

    Attributes:
        tls: whether its clients speak TLS.
        names: the host names, in lower case, that a request without TLS may be addressed to.
    """

    tls: bool
    names: frozenset[str] = field(default_factory=_machine_names)

    def check(self, request: BaseRequest) -> None:
        """Refuse what a web page sent or could have sent.

        Raises:
            Forbidden: the request's Host isn't ours, or its Origin or Sec-Fetch-Site tells of another site's page.
        """
        headers = request.headers
        host = headers.get("Host", "")
        if not self.tls and not self.is_own_host(host):
            raise Forbidden(f'request refused: the Host header "{host}" is neither an address nor a name of this machine')
        origin = headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            raise Forbidden(f'request refused: it comes from a web page of "{origin}"')
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Forbidden("request refused: it comes from a web page of another site")

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names this machine in a way that nobody else's DNS can bring about."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self.names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
