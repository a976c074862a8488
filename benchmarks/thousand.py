"""A thousand idle containers at once: starting, listing, and getting rid of them. Only for us; a peer would take minutes."""

from __future__ import annotations

import asyncio
import time

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table

COUNT = 1000


async def _thousand(engine: Engine) -> dict[str, float]:
    left = iter(range(COUNT))
    ids: list[str] = []

    async def starter() -> None:
        connection = engine.connection()
        for _ in left:
            body = engine.body("sleep", "100000", image=image.NAME)
            created = await connection.json("POST", "/v1.41/containers/create", body)
            assert isinstance(created, dict)
            await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
            ids.append(created["Id"])
        connection.close()

    begin = time.perf_counter()
    await asyncio.gather(*(starter() for _ in range(8)))
    started = time.perf_counter() - begin
    connection = engine.connection()
    listing = []
    for _ in range(10):
        begin = time.perf_counter()
        listed = await connection.json("GET", "/v1.41/containers/json")
        listing.append((time.perf_counter() - begin) * 1000)
        assert isinstance(listed, list)
        assert len(listed) == COUNT
    remaining = iter(ids)

    async def remover() -> None:
        own = engine.connection()
        for ident in remaining:
            await own.json("DELETE", f"/v1.41/containers/{ident}?force=1")
        own.close()

    begin = time.perf_counter()
    await asyncio.gather(*(remover() for _ in range(8)))
    removed = time.perf_counter() - begin
    connection.close()
    return {"start all, s": started, "list, ms": percentile(listing, 0.5), "remove all, s": removed}


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    ours = [engine for engine in engines if engine.name == "boxship"]
    table(f"{COUNT} idle containers", {engine.name: asyncio.run(_thousand(engine)) for engine in ours}, "")
