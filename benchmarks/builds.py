"""Builds: many small commands, a rebuild from the cache, one changed file, parallel stages, a context of 20,000 files.

Every engine builds the same Dockerfile with Docker's command line and its classic protocol (``DOCKER_BUILDKIT=0``); ours is
built with ``boxship build`` as well. Containers have the engine's default network, as they have with users.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table

_STEPS = 30
_FILES = 20_000
_WORK = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done"


@dataclass(frozen=True)
class _Builder:
    """A client on an engine."""

    name: str
    engine: Engine
    command: tuple[str, ...]

    def build(self, context: Path, *flags: str) -> float:
        """Build; the seconds that the whole command takes."""
        begin = time.perf_counter()
        done = subprocess.run(
            [*self.command, "build", "-q", *flags, str(context)],
            env=self.engine.env() | {"DOCKER_BUILDKIT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode or not done.stdout.startswith(b"sha256:"):
            raise RuntimeError(f"{self.name}: build: {(done.stdout + done.stderr).decode()}")
        return time.perf_counter() - begin


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    builders = _builders(engines)
    seconds: dict[str, dict[str, list[float]]] = {builder.name: {} for builder in builders}
    cases: dict[str, Callable[[_Builder, Path, int], float]] = {
        f"{_STEPS} RUN, no cache": _many_commands,
        "all cached": _all_cached,
        "last COPY changed": _last_changed,
        "three stages": _three_stages,
        "20,000 files": _many_files,
        "20,000 files, cached": _many_files_again,
    }
    with tempfile.TemporaryDirectory(prefix="build-bench-") as home:
        _write_many(Path(home) / "many")
        for turn in range(rounds):
            order = [*builders[turn % len(builders) :], *builders[: turn % len(builders)]]
            for what, act in cases.items():
                for builder in order:
                    os.sync()
                    seconds[builder.name].setdefault(what, []).append(act(builder, Path(home), turn))
    table(
        "Builds, each as a whole command",
        {n: {w: percentile(t, 0.5) for w, t in r.items()} for n, r in seconds.items()},
        "s",
        digits=2,
    )


def _builders(engines: list[Engine]) -> list[_Builder]:
    docker = shutil.which("docker")
    found = []
    for engine in engines:
        if engine.name == "boxship":
            program = shutil.which("boxship") or f"{sys.prefix}/bin/boxship"
            found.append(_Builder("boxship", engine, (program,)))
        if docker:
            found.append(_Builder(f"docker on {engine.name}", engine, (docker,)))
    return found


def _context(home: Path, dockerfile: str, **files: str) -> Path:
    context = Path(tempfile.mkdtemp(dir=home))
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)
    return context


def _commands(builder: _Builder, turn: int) -> str:
    """A Dockerfile that no other builder and no other round has."""
    lines = [f"RUN echo {builder.name} {turn} {step} > /step{step}" for step in range(_STEPS)]
    return f"FROM {image.NAME}\n" + "\n".join(lines) + "\n"


def _many_commands(builder: _Builder, home: Path, turn: int) -> float:
    return builder.build(_context(home, _commands(builder, turn)), "--no-cache")


def _all_cached(builder: _Builder, home: Path, turn: int) -> float:
    return builder.build(_context(home, _commands(builder, turn)))


def _last_changed(builder: _Builder, home: Path, turn: int) -> float:
    dockerfile = f"{_commands(builder, turn)}COPY data /data\n"
    builder.build(_context(home, dockerfile, data="before"))
    return builder.build(_context(home, dockerfile, data="after"))


def _three_stages(builder: _Builder, home: Path, turn: int) -> float:
    stages = []
    for stage in "abc":
        work = "\n".join(f"RUN {_WORK}; echo {builder.name} {turn} {stage} > /{stage}{step}" for step in range(5))
        stages.append(f"FROM {image.NAME} AS {stage}\n{work}\n")
    end = "".join(f"COPY --from={stage} /{stage}4 /{stage}\n" for stage in "abc")
    return builder.build(_context(home, "".join(stages) + f"FROM {image.NAME}\n{end}"), "--no-cache")


def _write_many(directory: Path) -> None:
    for number in range(_FILES):
        path = directory / f"d{number % 100}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(4, "big") * 256)


def _many_files(builder: _Builder, home: Path, turn: int) -> float:
    context = home / "many"
    # One file that is new makes the whole COPY new.
    (context / "turn").write_text(f"{builder.name} {turn}")
    (context / "Dockerfile").write_text(f"FROM {image.NAME}\nCOPY . /src\n")
    return builder.build(context)


def _many_files_again(builder: _Builder, home: Path, turn: int) -> float:
    (home / "many" / "turn").write_text(f"{builder.name} {turn}")
    return builder.build(home / "many")
