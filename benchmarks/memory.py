"""Memory: the idle engine with everything it started, and what each idle container adds, as PSS of all processes.

The container's own process is counted too, since an engine may put helpers there.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table

COUNT = 100


def pss(pids: set[int]) -> float:
    """Proportional set size in MB of some processes; what has gone meanwhile counts nothing."""
    total = 0
    for pid in pids:
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


def family(engine: Engine) -> set[int]:
    """The engine's processes and its containers', by ancestry from what it started and by the containers' cgroups."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family = set(engine.pids())
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family and pid not in family}
        family |= more
        grown = bool(more)
    return family


async def _idle(engine: Engine) -> dict[str, float]:
    connection = engine.connection()
    before = pss(family(engine))
    ids = []
    for _ in range(COUNT):
        body = engine.body("sleep", "100000", image=image.NAME)
        created = await connection.json("POST", "/v1.41/containers/create", body)
        assert isinstance(created, dict)
        ids.append(created["Id"])
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
    # Idle means that what a start has stirred up has come to rest, in every engine.
    await asyncio.sleep(5)
    after = pss(family(engine))
    listing = []
    for _ in range(30):
        begin = time.perf_counter()
        await connection.json("GET", "/v1.41/containers/json")
        listing.append((time.perf_counter() - begin) * 1000)
    for ident in ids:
        await connection.call("DELETE", f"/v1.41/containers/{ident}?force=1")
    return {
        "idle engine MB": before,
        "per container MB": (after - before) / COUNT,
        f"GET /containers/json with {COUNT}, ms": percentile(listing, 0.5),
    }


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    table("memory (PSS) and listing", {engine.name: asyncio.run(_idle(engine)) for engine in engines}, "", digits=2)
