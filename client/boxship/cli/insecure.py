"""``--insecure``: whether a registry may be spoken to without TLS is the daemon's to say, and its alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from boxship.api import API
from boxship.errors import CommandError


def check_insecure(api: API, domain: str) -> None:
    """Check that the daemon speaks to a registry without TLS, as the flag asks for.

    Args:
        api: the daemon.
        domain: the registry.

    Raises:
        CommandError: it doesn't.
    """
    host = domain.rpartition(":")[0] if ":" in domain and not domain.endswith("]") else domain
    try:
        address = ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    # What is on the daemon's own machine is spoken to without TLS by every daemon, where it has none.
    if address is not None and address.is_loopback:
        return
    settings: dict[str, Any] = api.call("GET", "/info").get("RegistryConfig") or {}
    index = (settings.get("IndexConfigs") or {}).get(domain)
    if index is not None and not index.get("Secure", True):
        return
    networks = (ip_network(network, strict=False) for network in settings.get("InsecureRegistryCIDRs") or ())
    if address is not None and any(address in network for network in networks):
        return
    raise CommandError(f"--insecure: the daemon speaks to {domain} over TLS only; add it to its insecure-registries")
