"""Logs: a container writes 200 MB of 100-byte lines to stdout; the time to its exit, and the time to read it all back.

The same with a client that follows the log meanwhile: the time to the container's exit, to the follower's last line, and how
much of the log the follower was given: an engine may drop lines, and does the less work the more of them it drops.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks import image
from benchmarks.engine import Connection, Engine
from benchmarks.report import percentile, table

MEGABYTES = 200
BYTES = MEGABYTES * 1_000_000
LINE = "Z" * 99
# One file, written out again and again: with `yes | head` the container would be measured, which moves 4 KiB at a time.
COMMAND = ["sh", "-c", f"yes {LINE} | head -c 1000000 >/file; exec cat $(yes /file | head -n {MEGABYTES})"]


async def _create(engine: Engine, connection: Connection) -> str:
    created = await connection.json("POST", "/v1.41/containers/create", engine.body(*COMMAND, image=image.NAME))
    assert isinstance(created, dict)
    return f"/v1.41/containers/{created['Id']}"


async def _followed(engine: Engine) -> tuple[float, float, float]:
    """MB/s of a container that is followed, and of its follower, and the share of the log that this received."""
    connection = engine.connection()
    path = await _create(engine, connection)
    begin = time.perf_counter()
    await connection.json("POST", f"{path}/start")
    follower = asyncio.create_task(_read(engine, f"{path}/logs?stdout=1&stderr=1&follow=1"))
    await connection.json("POST", f"{path}/wait")
    wrote = time.perf_counter() - begin
    received = await follower
    followed = time.perf_counter() - begin
    await connection.call("DELETE", path)
    connection.close()
    return MEGABYTES / wrote, received / 1_000_000 / followed, received / BYTES


async def _once(engine: Engine) -> tuple[float, float, float]:
    """MB/s of a container that writes alone, and of reading it back, and the share of the log that was there."""
    connection = engine.connection()
    path = await _create(engine, connection)
    begin = time.perf_counter()
    await connection.json("POST", f"{path}/start")
    await connection.json("POST", f"{path}/wait")
    wrote = time.perf_counter() - begin
    begin = time.perf_counter()
    received = await _read(engine, f"{path}/logs?stdout=1&stderr=1")
    read = time.perf_counter() - begin
    await connection.call("DELETE", path)
    connection.close()
    return MEGABYTES / wrote, received / 1_000_000 / read, received / BYTES


async def _read(engine: Engine, path: str) -> int:
    """Read an answer to its end; how many bytes of the log it was, however framed."""
    reader, writer = await asyncio.open_unix_connection(engine.socket, limit=1 << 22)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n".encode())
    received = 0
    while data := await reader.read(1 << 20):
        # Lines are nothing but these; no head, chunk size or frame has any.
        received += data.count(b"Z")
    writer.close()
    return received * len(LINE + "\n") // len(LINE)


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    alone: dict[str, list[tuple[float, float, float]]] = {engine.name: [] for engine in engines}
    followed: dict[str, list[tuple[float, float, float]]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            alone[engine.name].append(asyncio.run(_once(engine)))
            followed[engine.name].append(asyncio.run(_followed(engine)))
    rows = {}
    shares = {}
    for name, values in alone.items():
        write, read, kept = (percentile(column, 0.5) for column in zip(*values, strict=True))
        beside, follower, received = (percentile(column, 0.5) for column in zip(*followed[name], strict=True))
        rows[name] = {"write": write, "read back": read, "write, followed": beside, "the follower": follower}
        shares[name] = {"write": beside / write, "the follower": follower / write}
        shares[name] |= {"of the log, read back": kept, "of the log, followed": received}
    table("200 MB of 100-byte lines", rows, "MB/s")
    table("with a follower, against writing alone", shares, "share", digits=2)
    ours = shares.get("boxship")
    if ours and min(ours["of the log, read back"], ours["of the log, followed"]) < 1:
        raise RuntimeError(f"boxship lost lines: {ours}")
