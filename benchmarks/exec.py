"""A program in a running container: create, start (read to its end) and inspect over REST; and `exec` as a whole process."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time

from benchmarks import image
from benchmarks.engine import Connection, Engine
from benchmarks.report import percentile, table

CONCURRENCIES = (1, 8)
_CREATE = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}


async def _start(socket: str, exec_id: str) -> None:
    """Start it and read its stream to the end; the connection becomes the stream, so it is one of its own."""
    body = json.dumps({"Detach": False, "Tty": False}).encode()
    reader, writer = await asyncio.open_unix_connection(socket)
    head = (
        f"POST /v1.41/exec/{exec_id}/start HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    top = await reader.readuntil(b"\r\n\r\n")
    if int(top.split(b" ", 2)[1]) not in (101, 200):
        raise RuntimeError(f"start exec: {top!r}")
    await reader.read()
    writer.close()


async def _cycle(engine: Engine, connection: Connection, container: str) -> float:
    begin = time.perf_counter()
    created = await connection.json("POST", f"/v1.41/containers/{container}/exec", _CREATE)
    assert isinstance(created, dict)
    await _start(engine.socket, created["Id"])
    ended = await connection.json("GET", f"/v1.41/exec/{created['Id']}/json")
    assert isinstance(ended, dict)
    if ended["Running"] or ended["ExitCode"] != 0:
        raise RuntimeError(f"an exec ended with {ended}")
    return time.perf_counter() - begin


async def _round(engine: Engine, container: str, concurrency: int, count: int) -> tuple[list[float], float]:
    """``count`` execs with ``concurrency`` at a time: each one's seconds, and execs per second."""
    left = iter(range(count))
    times: list[float] = []

    async def worker() -> None:
        connection = engine.connection()
        for _ in left:
            times.append(await _cycle(engine, connection, container))  # noqa: PERF401 - `left` is shared by the workers
        connection.close()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return times, count / (time.perf_counter() - begin)


async def _container(engine: Engine) -> str:
    """A container that does nothing."""
    connection = engine.connection()
    created = await connection.json("POST", "/v1.41/containers/create", engine.body("sleep", "100000", image=image.NAME))
    assert isinstance(created, dict)
    await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
    connection.close()
    return str(created["Id"])


async def _remove(engine: Engine, container: str) -> None:
    connection = engine.connection()
    await connection.json("DELETE", f"/v1.41/containers/{container}?force=1")
    connection.close()


async def _over_rest(engines: list[Engine], containers: dict[str, str], rounds: int) -> None:
    latency: dict[str, dict[str, float]] = {engine.name: {} for engine in engines}
    rate: dict[str, dict[str, float]] = {engine.name: {} for engine in engines}
    for engine in engines:
        await _round(engine, containers[engine.name], 1, 5)
    for concurrency in CONCURRENCIES:
        times: dict[str, list[float]] = {engine.name: [] for engine in engines}
        rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for _ in range(rounds):
            for engine in engines:
                count = (100 if concurrency == 1 else 200) if engine.name == "boxship" else 24
                took, per_second = await _round(engine, containers[engine.name], concurrency, count)
                times[engine.name] += took
                rates[engine.name].append(per_second)
        for engine in engines:
            latency[engine.name][f"c={concurrency} p50"] = percentile(times[engine.name], 0.5) * 1000
            latency[engine.name][f"c={concurrency} p95"] = percentile(times[engine.name], 0.95) * 1000
            rate[engine.name][f"c={concurrency}"] = percentile(rates[engine.name], 0.5)
    table("exec: create + start + inspect", latency, "ms")
    table("execs per second", rate, "1/s")


def _processes(engines: list[Engine], containers: dict[str, str], rounds: int) -> None:
    docker = shutil.which("docker")
    boxship = shutil.which("boxship") or f"{sys.prefix}/bin/boxship"
    commands: dict[str, tuple[Engine, list[str]]] = {}
    for engine in engines:
        arguments = ["exec", containers[engine.name], "true"]
        if engine.name == "boxship":
            commands["boxship"] = (engine, [boxship, *arguments])
        if docker:
            commands[f"docker on {engine.name}"] = (engine, [docker, *arguments])
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds * 5):
        for name, (engine, command) in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, env=engine.env(), check=True, stdin=subprocess.DEVNULL, capture_output=True)
            times[name].append((time.perf_counter() - begin) * 1000)
    rows = {name: {"p50": percentile(took, 0.5), "p95": percentile(took, 0.95)} for name, took in times.items()}
    table("exec as a whole process", rows, "ms")


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    containers = {engine.name: asyncio.run(_container(engine)) for engine in engines}
    asyncio.run(_over_rest(engines, containers, rounds))
    _processes(engines, containers, rounds)
    for engine in engines:
        asyncio.run(_remove(engine, containers[engine.name]))
