"""``--publish``: from every form of it to the port maps of ContainerCreate.

Source: docker/go-connections nat.ParsePortSpecs, docker/cli opts.PortOpt; the messages are theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from boxship.errors import InvalidValue

_PROTOCOLS = ("tcp", "udp", "sctp")
_LAST = 65535


class Publication(NamedTuple):
    """A port of the container (``80/tcp``) and where it is published; an empty host port is any."""

    port: str
    host_ip: str
    host_port: str


def published(items: Iterable[str]) -> list[Publication]:
    """All of them, in order.

    Raises:
        InvalidValue: one can't be.
    """
    return [found for item in items for found in parse(item)]


def parse(text: str) -> list[Publication]:
    """``[address:][host[-host]:]container[-container][/protocol]``, or ``published=8080,target=80``.

    Args:
        text: what follows the flag.

    Raises:
        InvalidValue: it can't be.
    """
    if "=" in text:
        text = _short(text)
    body, slash, protocol = text.rpartition("/")
    if not slash:
        body, protocol = text, "tcp"
    protocol = protocol.lower()
    address, host, container = _split(body)
    if address:
        _check_address(address)
    if not container:
        raise InvalidValue(f"no port specified: {text}<empty>")
    first, last = _range(container, "containerPort")
    if protocol not in _PROTOCOLS:
        raise InvalidValue(f"invalid proto: {protocol}")
    begin, end = _range(host, "hostPort") if host else (0, 0)
    if host and end - begin != last - first and last != first:
        raise InvalidValue(f"invalid ranges specified for container and host Ports: {container} and {host}")
    found = []
    for offset in range(last - first + 1):
        if not host:
            host_port = ""
        elif end - begin == last - first:
            host_port = str(begin + offset)
        else:
            # One port of the container, any of the host's.
            host_port = f"{begin}-{end}"
        found.append(Publication(f"{first + offset}/{protocol}", address, host_port))
    return found


def _short(text: str) -> str:
    fields = dict(item.partition("=")[::2] for item in text.lower().split(","))
    if unknown := fields.keys() - {"target", "published", "protocol", "mode", "host_ip"}:
        raise InvalidValue(f"invalid field key: {sorted(unknown)[0]}")
    if fields.get("mode", "host") not in ("host", "ingress"):
        raise InvalidValue(f"invalid publish mode value ({fields['mode']}): must be either 'ingress' or 'host'")
    if not fields.get("target"):
        raise InvalidValue(f"no port specified: {text}<empty>")
    host = f"{fields['published']}:" if fields.get("published") else ""
    address = f"{fields['host_ip']}:" if fields.get("host_ip") else ""
    return f"{address}{host or (':' if address else '')}{fields['target']}/{fields.get('protocol', 'tcp')}"


def _split(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 1:
        return "", "", parts[0]
    if len(parts) == 2:
        return "", parts[0], parts[1]
    address = ":".join(parts[:-2])
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    return address, parts[-2], parts[-1]


def _check_address(address: str) -> None:
    from socket import AF_INET, AF_INET6, inet_pton

    for family in (AF_INET, AF_INET6):
        try:
            inet_pton(family, address)
        except OSError:
            continue
        return
    raise InvalidValue(f"invalid IP address: {address}")


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    numbers = (first, last if dash else first)
    if not all(number.isascii() and number.isdigit() and int(number) <= _LAST for number in numbers):
        raise InvalidValue(f"invalid {what}: {text}")
    if int(numbers[0]) > int(numbers[1]):
        raise InvalidValue(f"invalid {what}: {text}")
    return int(numbers[0]), int(numbers[1])
