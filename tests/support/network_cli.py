"""Acts on networks with ``docker`` and ``boxship``, and what tests of them share.

``names`` are containers and networks that the fixture of this name removes afterwards; those of networks begin with ``net``.
"""

from __future__ import annotations

import socket
import urllib.request

import pytest

from support.daemon import DOCKER, Daemon, wait_until

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]
SERVE = ("sh", "-c", "mkdir /www; hostname >/www/name; exec httpd -f -p 80 -h /www")


def said(daemon: Daemon, client: str, *words: str, code: int | None = 0) -> str:
    """What a command prints, errors included."""
    result = daemon.cli(client, *words, code=code)
    return (result.stdout + result.stderr).decode()


def network(daemon: Daemon, client: str, names: list[str], *flags: str, suffix: str = "") -> str:
    name = f"net-{client}{suffix}"
    names.append(name)
    said(daemon, client, "network", "create", *flags, name)
    return name


def started(daemon: Daemon, client: str, names: list[str], name: str, *words: str) -> str:
    name = f"{name}-{client}"
    names.append(name)
    said(daemon, client, "run", "-d", "--name", name, *words)
    return name


def subnet(daemon: Daemon, third: int) -> str:
    """A part of the daemon's own addresses, without its last number."""
    return daemon.subnets.replace(".0.0/16", f".{third}.")


def fetch(address: str, port: int, path: str = "name") -> str:
    """GET from a container's server, as soon as it serves."""
    host = f"[{address}]" if ":" in address else address

    def ask() -> str:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/{path}", timeout=10) as answer:
                return answer.read().decode().strip()
        except OSError:
            return ""

    return wait_until(ask, f"http://{address}:{port}/{path} answers")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
