"""Containers by the API with any host configuration, and what they said."""

from __future__ import annotations

import json
import os
import struct

import pytest
from support.daemon import Daemon
from support.daemons import stocked

BUSYBOX = "busybox"


class Isolated:
    """Containers of one daemon, removed at the test's end."""

    def __init__(self, daemon) -> None:
        self.daemon = daemon
        self.made: list[str] = []
        self.warnings: list[str] = []

    def create(self, script: str, config: dict | None = None, **host) -> str:
        body = {"Image": BUSYBOX, "Cmd": ["sh", "-c", script], **(config or {}), "HostConfig": {"NetworkMode": "none", **host}}
        status, answer = self.daemon.request("POST", "/containers/create", body)
        assert status == 201, answer
        self.warnings = answer["Warnings"] or []
        self.made.append(answer["Id"])
        return answer["Id"]

    def start(self, script: str, config: dict | None = None, **host) -> str:
        ident = self.create(script, config, **host)
        status, answer = self.daemon.request("POST", f"/containers/{ident}/start")
        assert status == 204, answer
        return ident

    def run(self, script: str, config: dict | None = None, code: int | None = 0, **host) -> list[str]:
        """Run to the end; its lines in the order in which they were written, which only one pipe for both streams keeps."""
        ident = self.start(f"exec 2>&1; {script}", config, **host)
        ended = self.daemon.request("POST", f"/containers/{ident}/wait")[1]
        lines = self.output(ident)
        assert code is None or ended["StatusCode"] == code, lines
        return lines

    def output(self, ident: str) -> list[str]:
        answer = self.daemon.raw(f"GET /containers/{ident}/logs?stdout=1&stderr=1 HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        body, text = answer.partition(b"\r\n\r\n")[2], b""
        while body:
            (length,) = struct.unpack(">4xI", body[:8])
            text, body = text + body[8 : 8 + length], body[8 + length :]
        return text.decode().splitlines()

    def refused(self, script: str = "true", config: dict | None = None, **host) -> str:
        """The message of a refused create, or of a refused start."""
        body = {"Image": BUSYBOX, "Cmd": ["sh", "-c", script], **(config or {}), "HostConfig": {"NetworkMode": "none", **host}}
        status, answer = self.daemon.request("POST", "/containers/create", body)
        if status == 201:
            self.made.append(answer["Id"])
            status, answer = self.daemon.request("POST", f"/containers/{answer['Id']}/start")
        assert status >= 400, json.dumps(answer)
        return answer["message"]

    def remove(self) -> None:
        for ident in self.made:
            self.daemon.request("DELETE", f"/containers/{ident}?force=1")


@pytest.fixture(scope="session")
def daemon():
    """A daemon that looks for CDI devices below its own directory; runc and crun it knows where the machine has them."""
    daemon = Daemon()
    daemon.flags = ("--cdi-spec-dir", str(daemon.home / "cdi"))
    with stocked(daemon):
        yield daemon


@pytest.fixture
def isolated(daemon):
    if os.geteuid() != 0:
        pytest.skip("runs real containers")
    found = Isolated(daemon)
    yield found
    found.remove()
