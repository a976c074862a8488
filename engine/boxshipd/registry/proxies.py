"""Which proxy a registry is reached through.

Source: golang.org/x/net/http/httpproxy, whose rules for ``NO_PROXY`` Docker's users know; moby daemon/config (``Proxies``).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from msgspec import Struct
from yarl import URL

from boxshipd.registry.errors import RegistryError

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Proxies(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """The proxies for plain and encrypted HTTP, and a comma-separated list of what is reached without one."""

    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""

    def over(self, environment: Mapping[str, str] = os.environ) -> Proxies:
        """These, and what the environment says where nothing is set."""

        def setting(own: str, name: str) -> str:
            return own or environment.get(name, "") or environment.get(name.lower(), "")

        # A server that is asked to take HTTP_PROXY from a request's "Proxy:" header isn't us, so no check for CGI.
        return Proxies(
            http_proxy=setting(self.http_proxy, "HTTP_PROXY"),
            https_proxy=setting(self.https_proxy, "HTTPS_PROXY"),
            no_proxy=setting(self.no_proxy, "NO_PROXY"),
        )

    def masked(self) -> Proxies:
        """The same without passwords, for people to see."""
        return Proxies(http_proxy=masked(self.http_proxy), https_proxy=masked(self.https_proxy), no_proxy=self.no_proxy)

    def for_url(self, url: URL) -> URL | None:
        """The proxy for ``url``; None where it is reached directly.

        Raises:
            RegistryError: the proxy's address can't be understood.
        """
        text = self.https_proxy if url.scheme == "https" else self.http_proxy
        if not text or not _uses_proxy(url.host or "", url.port or _DEFAULT_PORTS.get(url.scheme, 0), self.no_proxy):
            return None
        try:
            proxy = URL(text if "://" in text else f"http://{text}")
        except ValueError as error:
            raise RegistryError(f"invalid proxy address {masked(text)}: {error}") from None
        if proxy.scheme not in _DEFAULT_PORTS or not proxy.host:
            raise RegistryError(f"invalid proxy address {masked(text)}: it must begin with http:// or https://")
        return proxy


def _uses_proxy(host: str, port: int, exceptions: str) -> bool:
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_excepts(entry.strip().lower(), host, address, port) for entry in exceptions.split(","))


def _excepts(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return address is not None and address in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    name, only = _split_port(entry)
    if only and only != port:
        return False
    try:
        return address == ipaddress.ip_address(name)
    except ValueError:
        pass
    if name.startswith("*."):
        name = name[1:]
    # ".example.com" excepts its subdomains, "example.com" itself as well.
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, int]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        name, _, port = entry.partition(":")
    else:
        name, port = entry, ""
    return name, int(port) if port.isascii() and port.isdecimal() else 0


def masked(text: str) -> str:
    """An address whose user and password, if any, are hidden as Docker hides them.

    All up to the last ``@`` is hidden: in a password that should have been escaped, a slash ends nothing.
    """
    before, at, host = text.rpartition("@")
    if not at:
        return text
    scheme, separator, _ = before.partition("://")
    return f"{scheme}://xxxxx:xxxxx@{host}" if separator and ":" not in scheme else f"xxxxx:xxxxx@{host}"
