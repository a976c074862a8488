"""Containers with health checks, and their probers, for tests."""

from __future__ import annotations

import os
from pathlib import Path

from support.daemon import Daemon, wait_until

MS = 1_000_000


def create(daemon: Daemon, *test: str, command: tuple[str, ...] = ("sleep", "1000"), **fields: object) -> str:
    """A container whose check is ``test``, every 50 ms where nothing else is said; its id.

    Fields that begin with a small letter are the check's (``interval`` in ms), the others the body's.
    """
    check = {"Test": list(test), "Interval": 50 * MS}
    for name in [name for name in fields if name[0].islower()]:
        value = fields.pop(name)
        key = "".join(word.capitalize() for word in name.split("_"))
        check[key] = value if name == "retries" else int(value) * MS  # type: ignore[call-overload]
    host = {"NetworkMode": "none", **fields.pop("HostConfig", {})}  # type: ignore[dict-item]
    body = {"Image": "busybox", "Cmd": command, "Healthcheck": check, "HostConfig": host, **fields}
    status, answer = daemon.request("POST", "/containers/create", body)
    assert status == 201, answer
    return answer["Id"]  # type: ignore[index]


def start(daemon: Daemon, ident: str) -> str:
    """Start it; its id."""
    status, answer = daemon.request("POST", f"/containers/{ident}/start")
    assert status == 204, answer
    return ident


def run(daemon: Daemon, *test: str, **fields: object) -> str:
    """``create`` and ``start``."""
    return start(daemon, create(daemon, *test, **fields))  # type: ignore[arg-type]


def health(daemon: Daemon, ident: str) -> dict:
    """Its health as inspect shows it."""
    return daemon.inspect(ident)["State"]["Health"]


def becomes(daemon: Daemon, ident: str, status: str) -> dict:
    """Wait until its health is ``status``; the health."""
    return wait_until(lambda: (h := health(daemon, ident))["Status"] == status and h, f"{ident} is {status}")


def remove(daemon: Daemon, *idents: str) -> None:
    """Remove containers, running or not."""
    for ident in idents:
        status, answer = daemon.request("DELETE", f"/containers/{ident}?force=1")
        assert status in (204, 404), answer


def probers(ident: str) -> list[int]:
    """The processes of a container's prober."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if line.startswith(b"boxrun-prober ") and ident[:24].encode() in line:
                found.append(int(entry))
    return found


def prober(ident: str) -> int:
    """The process of a container's prober, as soon as there is one."""
    return wait_until(lambda: probers(ident), "the prober is there")[0]
