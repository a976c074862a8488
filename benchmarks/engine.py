"""A running engine, ours or a peer's, behind the Docker API: what the benchmarks measure.

The client here is as thin as can be (a kept-alive connection, no parsing beyond the length), and the same for every engine.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXEC_MOUNT = "bench-exec"
"""What the tmpfs for an engine's run directory is called among the machine's mounts."""


class Connection:
    """One kept-alive HTTP connection over a unix socket."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, bytes]:
        """One request, one answer."""
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(self._socket, limit=1 << 24)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        top = await reader.readuntil(b"\r\n\r\n")
        status = int(top.split(b" ", 2)[1])
        headers = dict(line.lower().split(b": ", 1) for line in top.split(b"\r\n")[1:] if b": " in line)
        data = b""
        if status not in (204, 304):
            if b"content-length" in headers:
                data = await reader.readexactly(int(headers[b"content-length"]))
            elif headers.get(b"transfer-encoding") == b"chunked":
                pieces = []
                while size := int(await reader.readline(), 16):
                    pieces.append(await reader.readexactly(size))
                    await reader.readexactly(2)
                await reader.readexactly(2)
                data = b"".join(pieces)
        if headers.get(b"connection") == b"close":
            self.close()
        return status, data

    async def json(self, method: str, path: str, body: object = None) -> object:
        """A request whose answer is JSON; anything but a 2xx is an error."""
        status, data = await self.call(method, path, b"" if body is None else json.dumps(body).encode())
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {data!r}")
        return json.loads(data) if data else None

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Engine:
    """A daemon of one kind, in directories of its own.

    Attributes:
        name: boxship, dockerd or podman.
        home: its directory, which holds all of it.
        socket: the API's unix socket.
        processes: what was started for it; their descendants belong to it too.
        command: the last of these commands.
        namespace: the name of the network namespace that it is in.
    """

    def __init__(self, name: str, home: Path, namespace: str) -> None:
        self.name = name
        self.home = home
        self.namespace = namespace
        self.socket = str(home / "api.sock")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.command: tuple[str, ...] = ()
        self.host_config: dict[str, object] = {"NetworkMode": "none"}

    @property
    def inside(self) -> tuple[str, ...]:
        """The beginning of a command that runs something in its network namespace."""
        return "nsenter", f"--net=/run/netns/{self.namespace}"

    def body(self, *command: str, image: str) -> dict[str, object]:
        """The body that creates a container for ``command`` without a network."""
        return {"Image": image, "Cmd": list(command), "HostConfig": self.host_config}

    def connection(self) -> Connection:
        """A new connection to it."""
        return Connection(self.socket)

    def pids(self) -> list[int]:
        """Every process of the engine itself and of its containers' helpers (not what runs inside containers)."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
                environment = Path(f"/proc/{entry}/environ").read_bytes()
            except OSError:
                continue
            if str(self.home).encode() in words or b"BENCH_HOME=" + str(self.home).encode() in environment:
                found.append(int(entry))
        return found

    def env(self) -> dict[str, str]:
        """The environment for a command line client of it."""
        return os.environ | {"DOCKER_HOST": f"unix://{self.socket}", "BOXSHIP_HOST": f"unix://{self.socket}"}


def _spawn(engine: Engine, *command: str) -> None:
    engine.command = command
    with open(engine.home / "log", "ab") as log:
        environment = os.environ | {"BENCH_HOME": str(engine.home), "CONTAINERS_CONF": str(engine.home / "containers.conf")}
        engine.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment))


def _wait_for_socket(engine: Engine) -> None:
    deadline = time.monotonic() + 60

    async def ping() -> bool:
        connection = engine.connection()
        try:
            return (await connection.call("GET", "/_ping"))[0] == 200
        except (OSError, asyncio.IncompleteReadError):
            return False
        finally:
            connection.close()

    while not asyncio.run(ping()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{engine.name} doesn't answer: {(engine.home / 'log').read_text()[-3000:]}")
        time.sleep(0.05)


def kill_and_restart(engine: Engine) -> None:
    """SIGKILL an engine's daemon, and nothing else of it, and start it again; returns when it answers."""
    engine.processes[-1].kill()
    engine.processes.pop().wait()
    _spawn(engine, *engine.command)
    _wait_for_socket(engine)


@contextmanager
def _home(name: str) -> Iterator[Path]:
    """A directory for an engine, whose ``exec`` is a tmpfs: by default that is below /run, which is one on Debian."""
    home = Path(tempfile.mkdtemp(prefix=f"{name}-bench-"))
    (home / "exec").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", EXEC_MOUNT, home / "exec"], check=True)
    try:
        yield home
    finally:
        _remove(home)


@contextmanager
def network_namespace() -> Iterator[str]:
    """A named network namespace with its loopback up: for an engine's bridges and firewall rules, or for who talks to it."""
    # Not called as an engine's directory is: by that name one looks for what containers have left.
    name = f"bench-{secrets.token_hex(4)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


@contextmanager
def boxship() -> Iterator[Engine]:
    """Our daemon."""
    with _home("boxship") as home, network_namespace() as namespace:
        engine = Engine("boxship", home, namespace)
        _spawn(
            engine, *engine.inside, sys.executable, "-m", "boxshipd.main",
            "--data-root", f"{home}/data", "--exec-root", f"{home}/exec", "--pidfile", f"{home}/pid",
            "--cgroup-parent", f"/{home.name}", "-H", f"unix://{engine.socket}",
        )  # fmt: skip
        try:
            _wait_for_socket(engine)
            yield engine
        finally:
            if engine.processes[-1].poll() is not None:
                # It died; what it started lives on, and only another one can end it.
                _spawn(engine, *engine.command)
                _wait_for_socket(engine)
            subprocess.run(
                [sys.executable, "-m", "boxship.cli.main", "system", "shutdown"],
                env=engine.env(),
                capture_output=True,
                check=False,
            )
            for process in engine.processes:
                process.wait(60)


@contextmanager
def dockerd() -> Iterator[Engine]:
    """Debian's dockerd, in a network namespace of its own."""
    with _home("dockerd") as home, network_namespace() as namespace:
        engine = Engine("dockerd", home, namespace)
        _spawn(
            engine, *engine.inside, "dockerd", "--data-root", f"{home}/data", "--exec-root", f"{home}/exec",
            "--pidfile", f"{home}/pid", "-H", f"unix://{engine.socket}",
        )  # fmt: skip
        try:
            _wait_for_socket(engine)
            yield engine
        finally:
            _end(engine)


@contextmanager
def podman() -> Iterator[Engine]:
    """Debian's podman as a service."""
    with _home("podman") as home, network_namespace() as namespace:
        engine = Engine("podman", home, namespace)
        # Its defaults raise hard limits, which not every machine's root may.
        (home / "containers.conf").write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
        _spawn(
            engine, *engine.inside, "podman", "--root", f"{home}/data", "--runroot", f"{home}/exec",
            "--cgroup-manager", "cgroupfs", "--runtime", "runc", "system", "service", "--time", "0", f"unix://{engine.socket}",
        )  # fmt: skip
        try:
            _wait_for_socket(engine)
            yield engine
        finally:
            _end(engine)


def _end(engine: Engine) -> None:
    for process in engine.processes:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in engine.pids():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _remove(home: Path) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(str(home)):
            subprocess.run(["umount", "-l", target], check=False)
    shutil.rmtree(home, ignore_errors=True)


PEERS = {"boxship": boxship, "dockerd": dockerd, "podman": podman}


def installed() -> list[str]:
    """The engines this machine has."""
    return ["boxship", *(name for name in ("dockerd", "podman") if shutil.which(name))]
