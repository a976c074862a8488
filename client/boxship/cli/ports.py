"""A container's ports as ``ps`` shows them."""

from __future__ import annotations

from typing import Any


def displayable(ports: list[dict[str, Any]]) -> str:
    """Ports in one line, those that follow each other joined: ``70-72/tcp, 0.0.0.0:8080->80/tcp``."""
    order = sorted(ports, key=lambda p: (p["PrivatePort"], p.get("IP", ""), p.get("PublicPort", 0), p.get("Type", "")))
    groups: dict[tuple[str, str], list[int]] = {}
    shown: list[str] = []
    mapped: list[str] = []
    for port in order:
        number, kind, address = port["PrivatePort"], port.get("Type", "tcp"), port.get("IP", "")
        if address and port.get("PublicPort") != number:
            mapped.append(f"{_host(address)}:{port.get('PublicPort', 0)}->{number}/{kind}")
            continue
        group = groups.get((address, kind))
        if group is not None and number == group[1] + 1:
            group[1] = number
            continue
        if group is not None:
            shown.append(_group(address, kind, group))
        groups[address, kind] = [number, number]
    shown += [_group(address, kind, group) for (address, kind), group in groups.items()]
    return ", ".join(shown + mapped)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _group(address: str, kind: str, group: list[int]) -> str:
    numbers = str(group[0]) if group[0] == group[1] else f"{group[0]}-{group[1]}"
    return f"{_host(address)}:{numbers}->{numbers}/{kind}" if address else f"{numbers}/{kind}"
