"""Cold start: create, start, wait and remove over REST, NetworkMode none, at several concurrencies; beside bare runtimes.

The bare runtimes (the C floor program, crun, runc) run the same program from the same files, one process for each container.
Rounds of the engines take turns, so that what the machine does meanwhile falls on all of them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import image
from benchmarks.engine import Connection, Engine
from benchmarks.report import percentile, table

CONCURRENCIES = (1, 8, 32)


async def _cycle(connection: Connection, body: dict[str, object]) -> float:
    begin = time.perf_counter()
    created = await connection.json("POST", "/v1.41/containers/create", body)
    assert isinstance(created, dict)
    path = f"/v1.41/containers/{created['Id']}"
    await connection.json("POST", f"{path}/start")
    waited = await connection.json("POST", f"{path}/wait")
    assert isinstance(waited, dict)
    if waited["StatusCode"] != 0:
        raise RuntimeError(f"a container exited with {waited}")
    await connection.json("DELETE", path)
    return time.perf_counter() - begin


Body = dict[str, object]


async def containers(engine: Engine, body: Body, concurrency: int, count: int) -> tuple[list[float], float]:
    """``count`` containers as ``body`` describes, ``concurrency`` at a time: each one's seconds, and containers per second."""
    left = iter(range(count))
    times: list[float] = []

    async def worker() -> None:
        connection = engine.connection()
        for _ in left:
            times.append(await _cycle(connection, body))  # noqa: PERF401 - `left` is shared by the workers
        connection.close()

    begin = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return times, count / (time.perf_counter() - begin)


async def _engines(engines: list[Engine], rounds: int) -> None:
    latency: dict[str, dict[str, float]] = {engine.name: {} for engine in engines}
    rate: dict[str, dict[str, float]] = {engine.name: {} for engine in engines}
    for engine in engines:
        await containers(engine, engine.body("true", image=image.NAME), 1, 5)
    for concurrency in CONCURRENCIES:
        times: dict[str, list[float]] = {engine.name: [] for engine in engines}
        rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
        for _ in range(rounds):
            for engine in engines:
                quick = engine.name == "boxship"
                count = (60 if concurrency == 1 else 160) if quick else max(8, concurrency)
                took, per_second = await containers(engine, engine.body("true", image=image.NAME), concurrency, count)
                times[engine.name] += took
                rates[engine.name].append(per_second)
        for engine in engines:
            latency[engine.name][f"c={concurrency} p50"] = percentile(times[engine.name], 0.5) * 1000
            latency[engine.name][f"c={concurrency} p95"] = percentile(times[engine.name], 0.95) * 1000
            rate[engine.name][f"c={concurrency}"] = percentile(rates[engine.name], 0.5)
    if len(engines) and engines[0].name == "boxship":
        for name, value in bare_runtimes(rounds * 20).items():
            latency[name] = {"c=1 p50": value[0], "c=1 p95": value[1]}
    table("create + start + wait + remove", latency, "ms")
    table("containers per second", rate, "1/s")


def bare_runtimes(count: int) -> dict[str, tuple[float, float]]:
    """p50 and p95 in ms of `crun run`, `runc run` and the floor program, in turns."""
    with TemporaryDirectory(prefix="boxship-bench-") as home, _without_hybrid_cgroups() as enter:
        bundle = image.bundle(Path(home))
        commands = {
            name: [name, "--root", f"{home}/{name}", "run", "--bundle", str(bundle)]
            for name in ("crun", "runc")
            if shutil.which(name)
        }
        floor = _floor(Path(home), bundle)
        times: dict[str, list[float]] = {name: [] for name in [*commands, *(["floor (C)"] if floor else [])]}

        def measure(name: str, command: list[str]) -> None:
            begin = time.perf_counter()
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL, preexec_fn=enter)
            times[name].append((time.perf_counter() - begin) * 1000)

        for number in range(count):
            for name, command in commands.items():
                measure(name, [*command, f"bench-{name}-{number}"])
            if floor:
                measure("floor (C)", floor)
        return {name: (percentile(values, 0.5), percentile(values, 0.95)) for name, values in times.items()}


@contextmanager
def _without_hybrid_cgroups() -> Iterator[Callable[[], None]]:
    """What a child calls to enter a mount namespace without the cgroup2 mount beside v1, which crun refuses to work with."""
    unified = Path("/sys/fs/cgroup/unified")
    script = f"umount {unified} 2>/dev/null; echo ready; exec sleep 1000000"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        namespace = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY)
        setns = ctypes.CDLL(None, use_errno=True).setns

        def enter() -> None:
            if setns(namespace, 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")

        try:
            yield enter
        finally:
            os.close(namespace)
            holder.kill()


def _floor(home: Path, bundle: Path) -> list[str] | None:
    if not shutil.which("gcc"):
        return None
    program = home / "floor"
    subprocess.run(["gcc", "-O2", "-o", str(program), str(Path(__file__).with_name("floor.c"))], check=True)
    for name in ("upper", "work", "merged"):
        (home / name).mkdir()
    return [str(program), str(bundle / "rootfs"), f"{home}/upper", f"{home}/work", f"{home}/merged", "/bin/true"]


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    asyncio.run(_engines(engines, rounds))
