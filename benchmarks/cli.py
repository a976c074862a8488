"""Whole processes: `boxship run --rm` and `docker run --rm` against us, and `docker run --rm` against the peers."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table

ARGS = ["run", "--rm", "--network", "none", image.NAME, "true"]


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    docker = shutil.which("docker")
    boxship = shutil.which("boxship") or f"{sys.prefix}/bin/boxship"
    commands: dict[str, tuple[Engine, list[str]]] = {}
    for engine in engines:
        if engine.name == "boxship":
            commands["boxship"] = (engine, [boxship, *ARGS])
        if docker:
            commands[f"docker on {engine.name}"] = (engine, [docker, *ARGS])
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds * 5):
        for name, (engine, command) in commands.items():
            begin = time.perf_counter()
            subprocess.run(command, env=engine.env(), check=True, stdin=subprocess.DEVNULL, capture_output=True)
            times[name].append((time.perf_counter() - begin) * 1000)
    table(
        "run --rm as a whole process",
        {n: {"p50": percentile(t, 0.5), "p95": percentile(t, 0.95)} for n, t in times.items()},
        "ms",
    )
