"""Statistics of 100 containers: one answer of each, one after the other and all at once, and a stream of each, one a second.

Processor time is the engine's own, helpers included, without what runs in the containers.
"""

from __future__ import annotations

import asyncio
import json
import time

from benchmarks import image
from benchmarks.engine import Connection, Engine
from benchmarks.log_stream import lines
from benchmarks.processes import by_role, cpu_seconds
from benchmarks.report import percentile, table

COUNT = 100
STREAM_SECONDS = 10.0
_SETTLE_SECONDS = 3.0


async def _start(engine: Engine) -> list[str]:
    connection = engine.connection()
    idents = []
    for _ in range(COUNT):
        created = await connection.json("POST", "/v1.41/containers/create", engine.body("sleep", "100000", image=image.NAME))
        assert isinstance(created, dict)
        idents.append(created["Id"])
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
    connection.close()
    return idents


def _used(engine: Engine) -> float:
    return cpu_seconds(pid for pids in by_role(engine).values() for pid in pids)


async def _once(connection: Connection, ident: str) -> float:
    """Milliseconds to one answer, which has to have something in it."""
    begin = time.perf_counter()
    answer = await connection.json("GET", f"/v1.41/containers/{ident}/stats?stream=0&one-shot=1")
    took = (time.perf_counter() - begin) * 1000
    assert isinstance(answer, dict)
    if not answer["cpu_stats"]["cpu_usage"]["total_usage"]:
        raise RuntimeError(f"statistics without processor time: {answer}")
    return took


async def _one_shots(engine: Engine, idents: list[str]) -> dict[str, float]:
    connections = [engine.connection() for _ in idents]
    await asyncio.gather(*(connection.call("GET", "/_ping") for connection in connections))
    used, single = _used(engine), []
    for ident in idents:
        single.append(await _once(connections[0], ident))  # noqa: PERF401 - one after the other
    cost = _used(engine) - used
    begin = time.perf_counter()
    await asyncio.gather(*(_once(connection, ident) for connection, ident in zip(connections, idents, strict=True)))
    together = (time.perf_counter() - begin) * 1000
    for connection in connections:
        connection.close()
    return {
        "one, p50 ms": percentile(single, 0.5),
        "one, p95 ms": percentile(single, 0.95),
        "one, CPU ms": cost / len(idents) * 1000,
        f"{COUNT} at once, ms": together,
    }


async def _stream(engine: Engine, ident: str, counts: dict[str, int], begun: asyncio.Event) -> None:
    async for line in lines(engine.socket, f"/v1.41/containers/{ident}/stats"):
        json.loads(line)
        counts[ident] = counts.get(ident, 0) + 1
        begun.set()


async def _streams(engine: Engine, idents: list[str]) -> dict[str, float]:
    counts: dict[str, int] = {}
    begun = [asyncio.Event() for _ in idents]
    tasks = [asyncio.create_task(_stream(engine, ident, counts, event)) for ident, event in zip(idents, begun, strict=True)]
    await asyncio.gather(*(event.wait() for event in begun))
    await asyncio.sleep(_SETTLE_SECONDS)
    counts.clear()
    begin, used = time.monotonic(), _used(engine)
    await asyncio.sleep(STREAM_SECONDS)
    took, used = time.monotonic() - begin, _used(engine) - used
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    total = sum(counts.values())
    return {
        f"{COUNT} streams, processors busy": used / took,
        "answers a second": total / took,
        "CPU ms per answer": used / total * 1000,
    }


async def _measure(engine: Engine) -> dict[str, float]:
    idents = await _start(engine)
    await asyncio.sleep(_SETTLE_SECONDS)
    row = await _one_shots(engine, idents) | await _streams(engine, idents)
    connection = engine.connection()
    for ident in idents:
        await connection.call("DELETE", f"/v1.41/containers/{ident}?force=1")
    connection.close()
    return row


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    rows = {engine.name: asyncio.run(_measure(engine)) for engine in engines if engine.name != "podman"}
    table(f"statistics of {COUNT} containers", rows, "", digits=3)
