"""``boxship port``."""

from __future__ import annotations

from typing import Any

from boxship.cli.command import Command, Context
from boxship.cli.flags import Options
from boxship.errors import CommandError
from boxship.http.target import quote


class PortOptions(Options):
    """``port`` has no flags."""


def _run(context: Context, _options: PortOptions, arguments: list[str]) -> int:
    container = context.api.call("GET", f"/containers/{quote(arguments[0])}/json")
    ports: dict[str, list[dict[str, str]] | None] = (container.get("NetworkSettings") or {}).get("Ports") or {}
    if len(arguments) == 1:
        lines = [f"{port} -> {_place(binding)}" for port in sorted(ports, key=_order) for binding in ports[port] or ()]
        context.print("".join(f"{line}\n" for line in lines), end="")
        return 0
    number, slash, protocol = arguments[1].partition("/")
    if not (number.isascii() and number.isdigit() and 0 < int(number) <= 65535):
        raise CommandError(f'invalid port "{arguments[1]}"')
    wanted = f"{number}/{protocol if slash else 'tcp'}"
    bindings = ports.get(wanted)
    if not bindings:
        raise CommandError(f"Error: No public port '{arguments[1]}' published for {arguments[0]}")
    context.print("".join(f"{_place(binding)}\n" for binding in bindings), end="")
    return 0


def _place(binding: dict[str, Any]) -> str:
    address = binding["HostIp"]
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


def _order(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol


PORT: Command[PortOptions] = Command(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    PortOptions,
    _run,
    minimum=1,
    maximum=2,
)
