"""Following a log: how long a line takes from being written in the container to being received by each follower.

The container's shell puts the wall clock's time into the line itself, right before it writes it (EPOCHREALTIME). The
followers are plain sockets in one epoll loop, which notes when a read returns and leaves all else for later: what they take of
the processors is the same for every engine, and small. The time a read waits for its turn among a thousand is in the figures.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import select
import socket
import time

import msgspec

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.processes import by_role, cpu_seconds
from benchmarks.report import percentile, table

_STAMP = re.compile(rb"(\d{10})\.(\d{6})\n")
_STAMP_SIZE = 17
_PATIENCE_SECONDS = 120.0


class Case(msgspec.Struct, frozen=True):
    """So many followers of so many containers, each of which writes a line every so many seconds."""

    followers: int
    containers: int
    pause: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.followers:,}" + (f" of {self.containers}" if self.containers > 1 else "")


CASES = (Case(1, 1, 0.05, 5), Case(100, 1, 0.2, 5), Case(1000, 1, 1.0, 10), Case(1000, 50, 1.0, 10))


class Crowd:
    """Followers, each with a connection of its own."""

    def __init__(self, engine: Engine, containers: list[str], followers: int, *, websocket: bool) -> None:
        self._poll = select.epoll()
        self._rests: dict[int, bytes] = {}
        self._sockets = []
        for number in range(followers):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(engine.socket)
            sock.sendall(_request(containers[number % len(containers)], websocket=websocket))
            self._sockets.append(sock)
            self._rests[sock.fileno()] = b""
            self._poll.register(sock, select.EPOLLIN)

    def gather(self, seconds: float) -> list[tuple[int, int, bytes]]:
        """What comes within some seconds: descriptor, time of receipt in ns since the epoch, and the bytes."""
        deadline = time.monotonic() + seconds
        received = []
        while (left := deadline - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left):
                data = os.read(fd, 1 << 16)
                received.append((fd, time.time_ns(), data))
                if not data:
                    raise RuntimeError("the engine ended a follower's stream")
        return received

    def latencies(self, received: list[tuple[int, int, bytes]], since: int) -> list[float]:
        """Milliseconds from writing to receipt of each line written after ``since`` (ns since the epoch)."""
        found = []
        for fd, when, data in received:
            *lines, self._rests[fd] = (self._rests[fd] + data).split(b"\n")
            for line in lines:
                stamp = _STAMP.search(line[-_STAMP_SIZE:] + b"\n")
                written = int(stamp[1] + stamp[2]) * 1000 if stamp else 0
                if written > since:
                    found.append((when - written) / 1e6)
        return found

    def await_all(self) -> None:
        """Wait until each has got a line."""
        waiting = set(self._rests)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(waiting)} followers have got nothing")
            received = self.gather(0.2)
            waiting -= {fd for fd, _, data in received if _STAMP.search(data)}
            self.latencies(received, 0)

    def leave(self) -> None:
        """Hang up."""
        self._poll.close()
        for sock in self._sockets:
            sock.close()


def _request(container: str, *, websocket: bool) -> bytes:
    query = "stdout=1&follow=1&tail=0"
    if not websocket:
        return f"GET /v1.41/containers/{container}/logs?{query} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET /containers/{container}/logs/ws?{query}&positions=1 HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Protocol: boxship.multiplexed\r\n\r\n"
    ).encode()


async def _writers(engine: Engine, case: Case) -> list[str]:
    connection = engine.connection()
    script = f"while :; do echo $EPOCHREALTIME; sleep {case.pause}; done"
    idents = []
    for _ in range(case.containers):
        body = engine.body("sh", "-c", script, image=image.NAME)
        body["HostConfig"] = {**engine.host_config, "LogConfig": {"Type": "json-file", "Config": {}}}
        created = await connection.json("POST", "/v1.41/containers/create", body)
        assert isinstance(created, dict)
        idents.append(created["Id"])
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
    connection.close()
    return idents


async def _remove(engine: Engine, containers: list[str]) -> None:
    connection = engine.connection()
    for ident in containers:
        await connection.call("DELETE", f"/v1.41/containers/{ident}?force=1")
    connection.close()


def _measure(engine: Engine, case: Case, containers: list[str], *, websocket: bool) -> tuple[list[float], float]:
    """Latencies in ms, and the engine's processor time per line received in µs."""
    crowd = Crowd(engine, containers, case.followers, websocket=websocket)
    try:
        crowd.await_all()
        members = [pid for pids in by_role(engine).values() for pid in pids]
        since, used = time.time_ns(), cpu_seconds(members)
        received = crowd.gather(case.seconds)
        used = cpu_seconds(members) - used
        found = crowd.latencies(received, since)
        expected = case.followers * case.seconds / case.pause
        if len(found) < expected / 2:
            raise RuntimeError(f"{engine.name}: {len(found)} lines were received where about {expected:.0f} were written")
        return found, used / len(found) * 1e6
    finally:
        crowd.leave()


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    figures: dict[str, dict[str, float]] = {}
    for case in CASES:
        writers = {engine.name: asyncio.run(_writers(engine, case)) for engine in engines if engine.name != "podman"}
        latencies: dict[str, list[float]] = {}
        costs: dict[str, list[float]] = {}
        for _ in range(rounds):
            for engine in engines:
                if engine.name not in writers:
                    continue
                for websocket in (False, True) if engine.name == "boxship" else (False,):
                    name = f"{engine.name} (websocket)" if websocket else engine.name
                    found, cost = _measure(engine, case, writers[engine.name], websocket=websocket)
                    latencies.setdefault(name, []).extend(found)
                    costs.setdefault(name, []).append(cost)
        for name, found in latencies.items():
            row = figures.setdefault(name, {})
            row[f"{case} p50"] = percentile(found, 0.5)
            row[f"{case} p99"] = percentile(found, 0.99)
            row[f"{case} CPU µs"] = percentile(costs[name], 0.5)
        for engine in engines:
            asyncio.run(_remove(engine, writers.get(engine.name, [])))
    table("line written to line received by N followers, and the engine's processor time per line received", figures, "ms")
