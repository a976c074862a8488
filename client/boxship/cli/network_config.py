"""From the network flags of ``create`` and ``run`` to a network mode and endpoints.

Source: docker/cli cli/command/container/opts.go (parseNetworkOpts, applyContainerOptions), opts/network.go.
"""

from __future__ import annotations

from typing import Any

from boxship.cli.container_flags import CreateOptions
from boxship.errors import CommandError

_FAILURE = 125
_PREDEFINED = ("bridge", "default", "host", "none")


class Attachment:
    """One ``--network``."""

    def __init__(self, text: str) -> None:
        self.target = text
        self.aliases: list[str] = []
        self.links: list[str] = []
        self.driver_opts: dict[str, str] = {}
        self.ip = self.ip6 = self.mac = ""
        self.link_local: list[str] = []
        self.priority = 0
        if "=" in text and not text.startswith("container:"):
            self._read(text)

    def _read(self, text: str) -> None:
        self.target = ""
        for item in text.split(","):
            key, equals, value = item.partition("=")
            if not equals:
                raise CommandError(f"invalid field {item}", _FAILURE)
            match key.strip().lower():
                case "name":
                    self.target = value
                case "alias":
                    self.aliases.append(value)
                case "driver-opt":
                    name, separator, setting = value.partition("=")
                    if not separator:
                        raise CommandError(f"invalid key value pair format in driver options: {value}", _FAILURE)
                    self.driver_opts[name.strip()] = setting.strip()
                case "ip":
                    self.ip = value
                case "ip6":
                    self.ip6 = value
                case "link-local-ip":
                    self.link_local.append(value)
                case "mac-address":
                    self.mac = value
                case "gw-priority":
                    self.priority = _priority(value)
                case other:
                    raise CommandError(f"invalid field key {other}", _FAILURE)
        if not self.target:
            raise CommandError("network name/id is not specified", _FAILURE)

    @property
    def endpoint(self) -> dict[str, Any]:
        """The endpoint's settings."""
        ipam: dict[str, Any] = {"IPv4Address": self.ip, "IPv6Address": self.ip6, "LinkLocalIPs": self.link_local}
        settings: dict[str, Any] = {
            "IPAMConfig": {key: value for key, value in ipam.items() if value} or None,
            "Links": self.links or None,
            "Aliases": self.aliases or None,
            "MacAddress": self.mac,
            "DriverOpts": self.driver_opts or None,
        }
        if self.priority:
            settings["GwPriority"] = self.priority
        return settings


def _priority(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise CommandError(f"invalid gw-priority: {text}", _FAILURE) from None


def network_config(options: CreateOptions) -> tuple[str, dict[str, Any]]:
    """The network mode and the endpoints by network.

    Raises:
        CommandError: the flags contradict each other.
    """
    attachments = [Attachment(text) for text in options.network] or [Attachment("default")]
    _apply_flags(attachments[0], options)
    endpoints: dict[str, Any] = {}
    for number, attachment in enumerate(attachments):
        if attachment.target in endpoints:
            raise CommandError(f'network "{attachment.target}" is specified multiple times', _FAILURE)
        user_defined = attachment.target not in _PREDEFINED and not attachment.target.startswith("container:")
        if len(attachments) > 1 and not (user_defined or attachment.target == "bridge"):
            raise CommandError(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes", _FAILURE
            )
        if attachment.aliases and not user_defined:
            raise CommandError("network-scoped aliases are only supported for user-defined networks", _FAILURE)
        settings = attachment.endpoint
        if user_defined or number or any(settings.values()):
            endpoints[attachment.target] = settings
    return attachments[0].target, endpoints


def _apply_flags(first: Attachment, options: CreateOptions) -> None:
    """Flags beside ``--network`` are about the first of them."""
    conflicts = (
        (options.network_alias and first.aliases, "--network-alias and per-network alias"),
        (options.link_local_ip and first.link_local, "--link-local-ip and per-network link-local IP addresses"),
        (options.ip and first.ip, "--ip and per-network IPv4 address"),
        (options.ip6 and first.ip6, "--ip6 and per-network IPv6 address"),
        (options.mac_address and first.mac, "--mac-address and per-network MAC address"),
    )
    for clash, what in conflicts:
        if clash:
            raise CommandError(f"conflicting options: cannot specify both {what}", _FAILURE)
    first.aliases += options.network_alias
    first.link_local += options.link_local_ip
    first.ip = first.ip or options.ip
    first.ip6 = first.ip6 or options.ip6
    first.mac = first.mac or options.mac_address
    if first.target not in _PREDEFINED and not first.target.startswith("container:"):
        first.links += options.link
