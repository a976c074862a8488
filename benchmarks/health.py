"""Health checks: what containers that are probed every second cost, in processors and memory, everything included.

Each engine gets as many containers as it can stand: a thousand are out of the question for dockerd.
Processor time is that of the engine, its helpers, and the probes themselves, by the processes' own accounts, in which those
that have ended count with who has waited for them.

A probe can't cost less than its program. So beside each engine stands the floor: the same program started with posix_spawn(3)
and waited for, one after the other, by nobody who does anything else, outside of any container. One of the programs is
``nothing`` (`benchmarks/nothing.py`), with which nearly all that is paid is the engine's doing and the kernel's.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import tempfile
import time
from datetime import datetime
from pathlib import Path

from benchmarks import image
from benchmarks.engine import Connection, Engine
from benchmarks.memory import family, pss
from benchmarks.nothing import nothing
from benchmarks.processes import cpu_seconds
from benchmarks.report import table

COUNTS = {"boxship": 1000}
FEW = 20
"""Containers for all other engines."""

SETTLE_SECONDS = 5.0
MEASURED_SECONDS = 10.0
_SECOND = 1_000_000_000
_PROBES = {
    "CMD true": ["CMD", "true"],
    "CMD-SHELL true": ["CMD-SHELL", "true"],
    "CMD nothing": ["CMD", "nothing"],
}
_FLOOR_SPAWNS = 2000


def _floor(test: list[str]) -> float:
    """CPU seconds of a probe's program alone: of starting it, of it, and of waiting for it."""
    with tempfile.TemporaryDirectory(prefix="boxship-bench-floor-") as directory:
        if test[1] == "nothing":
            program = f"{directory}/nothing"
            Path(program).write_bytes(nothing())
            os.chmod(program, 0o755)
        else:
            program = shutil.which("busybox") or "/bin/busybox"
        arguments = ["sh", "-c", test[1]] if test[0] == "CMD-SHELL" else [test[1]]
        begin = _used()
        for _ in range(_FLOOR_SPAWNS):
            os.waitpid(os.posix_spawn(program, arguments, {"PATH": "/bin"}), 0)
        return (_used() - begin) / _FLOOR_SPAWNS


def _used() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


async def _start(connection: Connection, engine: Engine, test: list[str], count: int) -> list[str]:
    idents = []
    for _ in range(count):
        body = engine.body("sleep", "100000", image=image.NAME)
        body["Healthcheck"] = {"Test": test, "Interval": _SECOND}
        created = await connection.json("POST", "/v1.41/containers/create", body)
        assert isinstance(created, dict)
        idents.append(created["Id"])
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
    return idents


async def _interval(connection: Connection, ident: str) -> float:
    """Seconds from one probe to the next, which ought to be one."""
    _, data = await connection.call("GET", f"/v1.41/containers/{ident}/json")
    log = json.loads(data)["State"]["Health"]["Log"]
    begins = [datetime.fromisoformat(result["Start"][:26].rstrip("Z") + "+00:00").timestamp() for result in log]
    return (begins[-1] - begins[0]) / (len(begins) - 1) if len(begins) > 1 else float("nan")


async def _measure(engine: Engine, test: list[str]) -> dict[str, float]:
    connection = engine.connection()
    count = COUNTS.get(engine.name, FEW)
    plain = await _start(connection, engine, ["NONE"], FEW)
    await asyncio.sleep(SETTLE_SECONDS)
    before = pss(family(engine))
    idents = await _start(connection, engine, test, count)
    await asyncio.sleep(SETTLE_SECONDS)
    members = family(engine)
    begin, used = time.monotonic(), cpu_seconds(members)
    await asyncio.sleep(MEASURED_SECONDS)
    # Processes that have begun since are accounted for by who has waited for them, or are too young to matter.
    share = (cpu_seconds(members) - used) / (time.monotonic() - begin)
    intervals = [await _interval(connection, ident) for ident in idents[:FEW]]
    memory = (pss(family(engine)) - before) / count
    for ident in (*plain, *idents):
        await connection.call("DELETE", f"/v1.41/containers/{ident}?force=1")
    interval = sum(intervals) / len(intervals)
    return {
        "containers": count,
        "processors busy": share,
        "CPU ms per probe": share * interval / count * 1000,
        "s between probes": interval,
        "MB per container": memory,
    }


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    for title, test in _PROBES.items():
        rows = {engine.name: asyncio.run(_measure(engine, test)) for engine in engines if engine.name != "podman"}
        floor = _floor(test)
        count = max(row["containers"] for row in rows.values())
        rows["the program alone"] = {"containers": count, "processors busy": floor * count, "CPU ms per probe": floor * 1000}
        table(f"health checks every second, {title}", rows, "", digits=3)
