"""What containers that have been removed, or an engine that has ended, left on the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.engine import EXEC_MOUNT, Engine
from benchmarks.processes import by_role

SPARES = 2
"""Shims that an engine at rest keeps ready."""

_CGROUPS = Path("/sys/fs/cgroup")
_SHARED_GROUP = "shared"
"""Where v1 controllers keep the processes of all containers that they don't limit; it lasts as long as the engine."""

_DIRECTORIES = ("data/containers", "data/trash", "exec/containers", "exec/execs", "exec/shims", "exec/probers")
_LONGER_THAN_EVER_WARM = 30.0


def of_containers(engine: Engine) -> list[str]:
    """What is left of containers, as an engine without any has nothing of them: files, cgroups, mounts, processes."""
    found = [
        f"file {engine.home / directory / name}"
        for directory in _DIRECTORIES
        if (engine.home / directory).is_dir()
        for name in os.listdir(engine.home / directory)
    ]
    for group in _groups(engine.home.name):
        found += [f"cgroup {entry}" for entry in group.iterdir() if entry.is_dir() and entry.name != _SHARED_GROUP]
    found += _mounts(engine.home.name)
    for role, pids in by_role(engine).items():
        if len(pids) > {"boxshipd": 1, "supervisor": 1, "zygote": 1, "spare": SPARES, "spare worker": SPARES}.get(role, 0):
            found.append(f"processes: {role} {pids}")
    return found


def of_engine(name: str) -> list[str]:
    """What bears the unique name of an engine's directory and cgroup."""
    found = [f"cgroup {group}" for group in _groups(name)] + _mounts(name)
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            about = Path(f"/proc/{entry}/cmdline").read_bytes() + Path(f"/proc/{entry}/cgroup").read_bytes()
            state = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if name.encode() in about and state != "Z":
            found.append(f"process {entry}: {about[:120]!r}")
    return found


def settled(look: Callable[[], list[str]], seconds: float = _LONGER_THAN_EVER_WARM) -> list[str]:
    """What ``look`` still finds after ``seconds``, or an empty list as soon as it finds nothing.

    Trash is emptied behind the answers, and shims that have served an exec stay warm for a moment.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _groups(name: str) -> list[Path]:
    hierarchies = [_CGROUPS, *(entry for entry in _CGROUPS.iterdir() if entry.is_dir())]
    return [hierarchy / name for hierarchy in hierarchies if (hierarchy / name).is_dir()]


def _mounts(name: str) -> list[str]:
    """Mounts below the engine's directory, but for the one that the benchmark itself has made there."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"mount {line.split()[4]}" for line in lines if name in line and f" {EXEC_MOUNT} " not in line]
