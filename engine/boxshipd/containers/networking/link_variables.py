"""The environment variables by which a container on the default bridge finds those that it is linked to.

Source: moby daemon/links/links.go, whose names these are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_NOT_PASSED_ON = ("HOME", "PATH")

Port = tuple[int, str]
"""A number and a protocol."""


def variables(name: str, address: str, ports: Iterable[Port], environment: Iterable[str]) -> list[str]:
    """What a link sets, as ``NAME=value``.

    Args:
        name: of the link: ``/container/alias``.
        address: of the linked container.
        ports: that it exposes.
        environment: its own variables.
    """
    prefix = name.rpartition("/")[2].upper().replace("-", "_")
    ordered = sorted(ports, key=lambda port: (port[1] != "tcp", port[1], port[0]))
    found = []
    if ordered:
        found.append(f"{prefix}_PORT={_place(address, ordered[0])}")
    for number, protocol in ordered:
        of_port = _of_port(prefix, (number, protocol))
        found += [
            f"{of_port}={_place(address, (number, protocol))}",
            f"{of_port}_ADDR={address}",
            f"{of_port}_PORT={number}",
            f"{of_port}_PROTO={protocol}",
        ]
    for first, last in _ranges(ordered):
        of_port = _of_port(prefix, first)
        found += [
            f"{of_port}_START={_place(address, first)}",
            f"{of_port}_PORT_START={first[0]}",
            f"{of_port}_END={_place(address, last)}",
            f"{of_port}_PORT_END={last[0]}",
        ]
    found.append(f"{prefix}_NAME={name}")
    for entry in environment:
        key, equals, value = entry.partition("=")
        if equals and key not in _NOT_PASSED_ON:
            found.append(f"{prefix}_ENV_{key}={value}")
    return found


def _of_port(prefix: str, port: Port) -> str:
    return f"{prefix}_PORT_{port[0]}_{port[1].upper()}"


def _place(address: str, port: Port) -> str:
    return f"{port[1]}://{address}:{port[0]}"


def _ranges(ordered: Sequence[Port]) -> list[tuple[Port, Port]]:
    """The first and last of each run of consecutive ports of a protocol, where it has more than one."""
    found: list[tuple[Port, Port]] = []
    for port in ordered:
        if found and found[-1][1] == (port[0] - 1, port[1]):
            found[-1] = (found[-1][0], port)
        else:
            found.append((port, port))
    return [(first, last) for first, last in found if first != last]
