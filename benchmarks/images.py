"""Images in and out: load and save of many small files, of one big layer, of many layers; beside plain ``tar``.

Every round has images of its own, which each engine gets in turn, and beside them a ``tar x`` of the same layers: what the
file system takes for it. The engine's memory is sampled while the big layer comes in, and containers are started meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import image
from benchmarks.archives import CASES, Case, Made, make
from benchmarks.engine import Engine
from benchmarks.memory import pss
from benchmarks.report import percentile, table

_SAMPLE_SECONDS = 0.05
_BUFFER = 1 << 20


def load(engine: Engine, made: Made) -> None:
    """``POST /images/load``, the archive straight from its file."""
    with _request(engine, "POST", "/v1.41/images/load?quiet=1", made.archive) as answer:
        body = b"".join(answer)
    if b"errorDetail" in body or b"Loaded image" not in body:
        raise RuntimeError(f"{engine.name}: load: {body!r}")


def save(engine: Engine, made: Made) -> None:
    """``GET /images/{name}/get``, thrown away as it comes."""
    with _request(engine, "GET", f"/v1.41/images/{made.name}/get") as answer:
        length = sum(len(piece) for piece in answer)
    if length < sum(layer.stat().st_size for layer in made.layers) // 4:
        raise RuntimeError(f"{engine.name}: save: only {length} bytes")


ACTS: dict[str, Callable[[Engine, Made], None]] = {"load": load, "save": save}
"""What is measured of every image, in this order. Another act (a pull, a push) is another entry."""


@contextmanager
def _request(engine: Engine, method: str, path: str, body: Path | None = None) -> Iterator[Iterator[memoryview]]:
    """A request over a connection of its own, and its answer's body with whatever framing it has."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(engine.socket)
        length = body.stat().st_size if body else 0
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Type: application/x-tar\r\n"
        connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
        if body is not None:
            with body.open("rb") as file:
                connection.sendfile(file)
        top = b""
        while b"\r\n\r\n" not in top:
            more = connection.recv(65536)
            if not more:
                raise RuntimeError(f"{engine.name}: {method} {path}: no answer")
            top += more
        if top.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"{engine.name}: {method} {path}: {top!r}")
        yield _body(connection, top.partition(b"\r\n\r\n")[2])


def _body(connection: socket.socket, first: bytes) -> Iterator[memoryview]:
    buffer = bytearray(_BUFFER)
    if first:
        yield memoryview(first)
    while count := connection.recv_into(buffer):
        yield memoryview(buffer)[:count]


class _Peak:
    """The most memory an engine's processes take together (PSS), beyond what they took at first."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = pss(set(engine.pids()))
        self.peak = 0.0

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, pss(set(self._engine.pids())) - self.before)

    def __enter__(self) -> _Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


@dataclass
class _Results:
    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)

    def add(self, who: str, what: str, seconds: float) -> None:
        self.seconds.setdefault(who, {}).setdefault(what, []).append(seconds)


def _control(made: Made, home: Path, what: str, results: _Results) -> None:
    """``tar x`` of the layers one after the other, synced to the disk as a loaded image is, and ``tar c`` of the result."""
    root = Path(tempfile.mkdtemp(dir=home))
    begin = time.perf_counter()
    for layer in made.layers:
        subprocess.run(["tar", "-x", "-f", str(layer), "-C", str(root)], check=True)
    results.add("tar", f"load {what}", time.perf_counter() - begin)
    subprocess.run(["sync", "-f", str(root)], check=True)
    results.add("tar, synced", f"load {what}", time.perf_counter() - begin)
    begin = time.perf_counter()
    with subprocess.Popen(["tar", "-c", "-C", str(root), "."], stdout=subprocess.PIPE) as archiver:
        assert archiver.stdout is not None
        while archiver.stdout.read(_BUFFER):
            pass
    results.add("tar", f"save {what}", time.perf_counter() - begin)


def _round(engines: list[Engine], case: Case, home: Path, seed: int, results: _Results) -> None:
    made = make(case, home, seed)
    # What the images' making has left to be written must not fall on whoever comes first.
    os.sync()
    turn = seed % len(engines)
    for engine in [*engines[turn:], *engines[:turn]]:
        for name, act in ACTS.items():
            with _Peak(engine) if (name, case.name) == ("load", "500 MB layer") else _Unwatched() as watched:
                begin = time.perf_counter()
                act(engine, made)
                results.add(engine.name, f"{name} {case.name}", time.perf_counter() - begin)
            if isinstance(watched, _Peak):
                results.memory.setdefault(engine.name, []).append(watched.peak)
        os.sync()
    _control(made, home, case.name, results)
    os.sync()


class _Unwatched:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


async def _starts(engine: Engine, until: threading.Event, count: int) -> list[float]:
    """Milliseconds from a start's request to its answer, one after the other, until told to end or ``count`` are done."""
    connection = engine.connection()
    times: list[float] = []
    while not until.is_set() and len(times) < count:
        created = await connection.json("POST", "/v1.41/containers/create", engine.body("true", image=image.NAME))
        assert isinstance(created, dict)
        begin = time.perf_counter()
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
        times.append((time.perf_counter() - begin) * 1000)
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/wait")
        await connection.json("DELETE", f"/v1.41/containers/{created['Id']}")
    connection.close()
    return times


def _start_during_load(engine: Engine, home: Path, seed: int) -> dict[str, float]:
    """A container's start while nothing else happens, and while images are loaded."""
    found = {"idle": percentile(asyncio.run(_starts(engine, threading.Event(), 40)), 0.5)}
    for number, case in enumerate(CASES):
        made = make(case, home, seed + number)
        os.sync()
        done = threading.Event()

        def work(made: Made = made, done: threading.Event = done) -> None:
            try:
                load(engine, made)
            finally:
                done.set()

        thread = threading.Thread(target=work)
        thread.start()
        times = asyncio.run(_starts(engine, done, 10_000))
        thread.join()
        found[f"loading {case.name}"] = percentile(times, 0.5)
    return found


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    results = _Results()
    with tempfile.TemporaryDirectory(prefix="boxship-bench-images-") as directory:
        home = Path(directory)
        for case in CASES:
            for number in range(rounds):
                _round(engines, case, home, 1000 * os.getpid() + number, results)
        for act in ACTS:
            rows = {
                who: {
                    what.removeprefix(f"{act} "): percentile(times, 0.5) for what, times in row.items() if what.startswith(act)
                }
                for who, row in results.seconds.items()
            }
            table(act, {who: row for who, row in rows.items() if row}, "s", digits=2)
        peaks = {who: {"PSS above idle": max(values)} for who, values in results.memory.items()}
        table("memory while the 500 MB layer is loaded", peaks, "MB")
        starts = {engine.name: _start_during_load(engine, home, 1000 * os.getpid() + 100) for engine in engines}
        table("start of a container meanwhile, p50", starts, "ms")
