"""Logs: a container writes 200 MB of 100-byte lines to stdout; the time to its exit, and the time to read it all back."""

from __future__ import annotations

import asyncio
import time

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table

MEGABYTES = 200
LINE = "x" * 99
# One file, written out again and again: with `yes | head` the container would be measured, which moves 4 KiB at a time.
COMMAND = ["sh", "-c", f"yes {LINE} | head -c 1000000 >/file; exec cat $(yes /file | head -n {MEGABYTES})"]


async def _once(engine: Engine) -> tuple[float, float]:
    connection = engine.connection()
    body = engine.body(*COMMAND, image=image.NAME)
    created = await connection.json("POST", "/v1.41/containers/create", body)
    assert isinstance(created, dict)
    path = f"/v1.41/containers/{created['Id']}"
    begin = time.perf_counter()
    await connection.json("POST", f"{path}/start")
    await connection.json("POST", f"{path}/wait")
    wrote = time.perf_counter() - begin
    begin = time.perf_counter()
    size = await _read(engine, f"{path}/logs?stdout=1&stderr=1")
    read = time.perf_counter() - begin
    if size < MEGABYTES * 1_000_000:
        raise RuntimeError(f"{engine.name} gave back {size} bytes")
    await connection.call("DELETE", path)
    connection.close()
    return MEGABYTES / wrote, MEGABYTES / read


async def _read(engine: Engine, path: str) -> int:
    """Read an answer to its end, whatever its framing; bytes received."""
    reader, writer = await asyncio.open_unix_connection(engine.socket, limit=1 << 22)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    size = 0
    while data := await reader.read(1 << 20):
        size += len(data)
    writer.close()
    return size


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    figures: dict[str, list[tuple[float, float]]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            figures[engine.name].append(asyncio.run(_once(engine)))
    rows = {
        name: {"write": percentile([v[0] for v in values], 0.5), "read back": percentile([v[1] for v in values], 0.5)}
        for name, values in figures.items()
    }
    table("200 MB of 100-byte lines", rows, "MB/s")
