"""Real cgroups below a parent of each test's own."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from pathlib import Path

import pytest
from boxrun.container import spec
from boxrun.container.cgroups import detection
from boxrun.container.cgroups.hybrid import Hybrid
from boxrun.container.cgroups.unified import Unified

_numbers = itertools.count()


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            if "integration/cgroups" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="makes real cgroups"))


def machine():
    """cgroup2's mount and v1's hierarchies."""
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return detection.mounts(lines)


class Machine:
    """An implementation with a parent of its own, and processes in its groups."""

    def __init__(self, cgroups, mounts):
        self.cgroups = cgroups
        self.parent = f"/boxship-test-{os.getpid()}-{next(_numbers)}"
        self._mounts = mounts
        self._processes = []

    def has(self, controller):
        return controller in self.cgroups.controllers

    def need(self, *controllers):
        missing = [name for name in controllers if not self.has(name)]
        if missing:
            pytest.skip(f"no {', '.join(missing)} controller here")

    def create(self, name="c", **resources):
        return self.cgroups.create(spec.Cgroup(parent=self.parent, name=name), spec.Resources(**resources))

    def open(self, name="c"):
        return self.cgroups.open(spec.Cgroup(parent=self.parent, name=name))

    def directories(self):
        """Every directory at and below the parent, in every hierarchy."""
        return sorted(str(path) for mount in self._mounts for path in Path(mount).glob(f"{self.parent[1:]}/**/"))

    def file(self, name, group="c"):
        """The text of a file of a group, whichever hierarchy it is in."""
        found = {text for mount in self._mounts for text in self._text(Path(mount, self.parent[1:], group, name))}
        assert len(found) == 1, f"{name}: {found}"
        return found.pop()

    @staticmethod
    def _text(path):
        return [path.read_text().strip()] if path.exists() else []

    def run(self, group, script):
        """Run a shell script in a group."""
        process = subprocess.Popen(
            ["sh", "-c", f"read go; {script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        for fd in group.join_fds:
            os.write(fd, str(process.pid).encode())
        procs = os.open("cgroup.procs", os.O_WRONLY, dir_fd=group.fd)
        os.write(procs, str(process.pid).encode())
        os.close(procs)
        process.stdin.write("go\n")
        process.stdin.flush()
        return process

    def finish(self):
        self.cgroups.sweep(self.parent, ())
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
        self.cgroups.dissolve(self.parent)
        self.cgroups.close()
        assert self.directories() == []


@contextlib.contextmanager
def own_cgroups_restored(mounts):
    """Afterwards this process is again where it was."""
    with open("/proc/self/cgroup", encoding="ascii") as lines:
        before = {names: path for _, names, path in (line.rstrip().split(":", 2) for line in lines)}
    yield
    for mount, controllers in mounts:
        names = next((names for names in before if names and controllers and controllers == set(names.split(","))), None)
        path = before[names] if names else next((path for name, path in before.items() if name.startswith("name=")), "/")
        Path(mount, path[1:], "cgroup.procs").write_text("0")


@pytest.fixture(params=["unified", "hybrid", "settled"])
def machine_(request):
    """Each implementation the machine has; ``settled`` with this process moved to the shared groups, as the zygote is."""
    cgroup2, v1 = machine()
    if cgroup2 is None or (request.param != "unified" and not v1):
        pytest.skip(f"this machine is not {request.param}")
    mounts = [cgroup2, *(mount for mount, _ in v1)]
    if request.param == "unified":
        made = Machine(Unified(cgroup2), mounts)
        yield made
        made.finish()
        return
    made = Machine(Hybrid(cgroup2, v1), mounts)
    with own_cgroups_restored(v1) if request.param == "settled" else contextlib.nullcontext():
        if request.param == "settled":
            made.cgroups.settle(made.parent)
        yield made
    made.finish()
