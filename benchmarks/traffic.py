"""What goes over containers' networks: names asked of the embedded server, and TCP through a published port.

The far ends are C programs (``traffic.c``) in the containers' network namespaces, so that nothing but the networks is measured.
Connections come from another network namespace, linked to the engine's as a neighbour on the host's link would be, and from the
host itself, by 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import image
from benchmarks.engine import Engine, network_namespace
from benchmarks.network import capable
from benchmarks.report import percentile, table

SECONDS = 1.0
WINDOW, THREADS = 64, 8
_HOST, _NEIGHBOUR = "198.18.0.1", "198.18.0.2"
_PORT, _TARGET = 8080, "bench-target"
Figures = dict[str, float]


@dataclass
class Stage:
    """One engine's containers and who talks to them."""

    program: Path
    inside: tuple[str, ...]
    neighbour: tuple[str, ...]
    asker: tuple[str, ...]

    def _run(self, place: tuple[str, ...], *arguments: object) -> dict[str, float]:
        command = [*place, str(self.program), *map(str, arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    def wait_for_names(self) -> None:
        """Ask once: the first container with a name server may be there before that is."""
        self._run(self.asker, "dns", "127.0.0.11", _TARGET, 0.01, 1)

    def names(self) -> Figures:
        """The asker looks for another container by its name."""
        few = self._run(self.asker, "dns", "127.0.0.11", _TARGET, SECONDS, 1)
        many = self._run(self.asker, "dns", "127.0.0.11", _TARGET, SECONDS, WINDOW)
        return {
            "one at a time 1/s": few["queries"] / few["seconds"],
            "its p99 us": few["p99"],
            f"{WINDOW} at a time 1/s": many["queries"] / many["seconds"],
            "their p99 us": many["p99"],
            "failures": few["failures"] + many["failures"],
        }

    def connections(self) -> Figures:
        """A stream, and connections of one byte there and back, from both sides."""
        found: Figures = {}
        for who, place, address in (("neighbour", self.neighbour, _HOST), ("127.0.0.1", self.inside, "127.0.0.1")):
            sent = self._run(place, "stream", address, _PORT, SECONDS)
            opened = self._run(place, "connect", address, _PORT, SECONDS, THREADS)
            found[f"{who} MB/s"] = sent["bytes"] / sent["seconds"] / 1e6
            found[f"{who} connections/s"] = opened["connections"] / opened["seconds"]
            found["failures"] = found.get("failures", 0) + opened["failures"]
        return found


@contextmanager
def stage(engine: Engine, program: Path) -> Iterator[Stage]:
    """A network with two containers, one of which serves a published port, and a neighbour of the engine's host."""
    with ExitStack() as stack:
        neighbour = stack.enter_context(network_namespace())
        link = ("ip", "-n", neighbour, "link")
        subprocess.run([*link, "add", "eth0", "type", "veth", "peer", "name", "bench0", "netns", engine.namespace], check=True)
        for namespace, name, address in ((neighbour, "eth0", _NEIGHBOUR), (engine.namespace, "bench0", _HOST)):
            subprocess.run(["ip", "-n", namespace, "address", "add", f"{address}/24", "dev", name], check=True)
            subprocess.run(["ip", "-n", namespace, "link", "set", name, "up"], check=True)
        pids = asyncio.run(_start(engine))
        stack.callback(lambda: asyncio.run(_remove(engine)))
        target, asker = (("nsenter", f"--net=/proc/{pid}/ns/net") for pid in pids)
        server = subprocess.Popen([*target, str(program), "serve", "80"], stdout=subprocess.PIPE)
        stack.callback(server.wait)
        stack.callback(server.kill)
        assert server.stdout is not None
        stack.callback(server.stdout.close)
        server.stdout.readline()
        made = Stage(program, engine.inside, ("nsenter", f"--net=/run/netns/{neighbour}"), asker)
        made.wait_for_names()
        yield made


async def _start(engine: Engine) -> list[int]:
    """The pids of the target, which has a published port, and of the asker."""
    connection = engine.connection()
    await connection.json("POST", "/v1.41/networks/create", {"Name": "bench-net", "CheckDuplicate": True})
    pids = []
    for name, published in ((_TARGET, True), ("bench-asker", False)):
        bindings = {"80/tcp": [{"HostPort": str(_PORT)}]} if published else {}
        body = {
            "Image": image.NAME,
            "Cmd": ["sleep", "100000"],
            "ExposedPorts": {port: {} for port in bindings},
            "HostConfig": {"NetworkMode": "bench-net", "PortBindings": bindings},
        }
        await connection.json("POST", f"/v1.41/containers/create?name={name}", body)
        await connection.json("POST", f"/v1.41/containers/{name}/start")
        shown = await connection.json("GET", f"/v1.41/containers/{name}/json")
        assert isinstance(shown, dict)
        pids.append(shown["State"]["Pid"])
    connection.close()
    return pids


async def _remove(engine: Engine) -> None:
    connection = engine.connection()
    for name in (_TARGET, "bench-asker"):
        await connection.json("DELETE", f"/v1.41/containers/{name}?force=1")
    await connection.json("DELETE", "/v1.41/networks/bench-net")
    connection.close()


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    able = capable(engines)
    with TemporaryDirectory(prefix="boxship-bench-") as home, ExitStack() as stack:
        program = Path(home) / "traffic"
        source = str(Path(__file__).with_name("traffic.c"))
        subprocess.run(["gcc", "-O2", "-pthread", "-o", str(program), source], check=True)
        stages = {engine.name: stack.enter_context(stage(engine, program)) for engine in able}
        names: dict[str, list[Figures]] = {name: [] for name in stages}
        connections: dict[str, list[Figures]] = {name: [] for name in stages}
        for _ in range(rounds):
            for name, made in stages.items():
                names[name].append(made.names())
                connections[name].append(made.connections())
    table("a container's name by the embedded server", {name: _middle(found) for name, found in names.items()}, "")
    table("TCP through a published port", {name: _middle(found) for name, found in connections.items()}, "")


def _middle(found: list[Figures]) -> Figures:
    """The medians, and all failures."""
    whole = {column: percentile([one[column] for one in found], 0.5) for column in found[0] if column != "failures"}
    return whole | {"failures": sum(one["failures"] for one in found)}
