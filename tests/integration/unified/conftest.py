"""Real containers on a machine whose only cgroup file system is cgroup2; elsewhere there is nothing to run.

``python tests/vm`` brings such a machine along.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxrun.container.cgroups import CgroupError, detect
from support.busybox import busybox_archive
from support.daemon import Daemon, wait_until
from support.leaks import leaks


def _unified() -> bool:
    try:
        cgroups = detect()
    except CgroupError:
        return False
    try:
        return cgroups.version == "2" and {"cpu", "cpuset", "io", "memory", "pids"} <= cgroups.controllers
    finally:
        cgroups.close()


collect_ignore_glob = [] if os.geteuid() == 0 and _unified() else ["test_*.py"]


class Machine(Daemon):
    """A daemon, and what the kernel says of its containers."""

    def run(self, *command: str, start: bool = True, **host) -> str:
        """Start a container."""
        body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
        status, answer = self.request("POST", "/containers/create", body)
        assert status == 201, answer
        if start:
            status, said = self.request("POST", f"/containers/{answer['Id']}/start")
            assert status == 204, said
        return answer["Id"]

    def shell(self, script: str, **host) -> str:
        """Run a shell script to its end in a container, and give what it wrote."""
        ident = self.run("sh", "-c", script, **host)
        self.ended(ident)
        return self.cli("boxship", "logs", ident).stdout.decode()

    def ended(self, ident: str) -> dict:
        """Wait for a container's end; its state."""
        status, _ = self.request("POST", f"/containers/{ident}/wait")
        assert status == 200
        return self.inspect(ident)["State"]

    def group(self, ident: str) -> Path:
        """A container's group."""
        return Path("/sys/fs/cgroup", self.name, ident)

    def stats(self, ident: str) -> dict:
        """A sample."""
        return self.get(f"/containers/{ident}/stats?stream=0&one-shot=1")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    machine = Machine("--shutdown-timeout", "0")
    machine.start()
    try:
        machine.cli("boxship", "load", stdin=busybox_archive())
        yield machine
    finally:
        machine.shutdown()
    wait_until(lambda: not leaks(machine.name), f"nothing is left of {machine.name}: {leaks(machine.name)}", 10)
