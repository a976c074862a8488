"""What the registry client is told by the daemon's configuration, which is read without any of the client being imported."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from boxshipd.registry.hosts import CERTIFICATE_DIRECTORIES, RegistrySettings
from boxshipd.registry.proxies import Proxies
from boxshipd.registry.timing import Timing


class ClientSettings(Struct, frozen=True, kw_only=True):
    """What the daemon's configuration says of registries; see ``boxshipd.config``."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    registries: Mapping[str, RegistrySettings] = {}
    certificates: tuple[str, ...] = CERTIFICATE_DIRECTORIES
    proxies: Proxies = Proxies()
    timing: Timing = Timing()
