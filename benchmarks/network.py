"""Containers on the default bridge: cold start and how many a second, beside those without a network and beside bare runtimes;
and what one more container with 16 published ports costs once there are many.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks import image
from benchmarks.engine import Engine
from benchmarks.report import percentile, table
from benchmarks.start import Body, bare_runtimes, containers

CONCURRENCIES = (1, 32)
FASTER_THAN_DOCKERD = 20.0
"""How many times faster than dockerd's a cold start with a bridge is to be."""
OF_CRUN = 1.5
"""How many times as long as `crun run` without a network it may take."""
MANY, PORTS = 200, 16
_FIRST_PORT = 20000
_PEER_SECONDS = 5.0
"""How long a peer may go on starting containers with ports, for each round asked for."""
_LAST = 5


def body(mode: str) -> Body:
    """A container of ``true`` in a network mode."""
    return {"Image": image.NAME, "Cmd": ["true"], "HostConfig": {"NetworkMode": mode}}


def run(engines: list[Engine], rounds: int = 3) -> None:
    """Measure and print."""
    asyncio.run(_starts(capable(engines), rounds))


def run_ports(engines: list[Engine], rounds: int = 3) -> None:
    """The same of published ports."""
    ports = {engine.name: asyncio.run(_many_ports(engine, rounds)) for engine in capable(engines)}
    names = {name: f"{name}, with {len(took) - 1} there" for name, took in ports.items()}
    rows = {
        names[name]: {"first": percentile(took[:_LAST], 0.5), "last": percentile(took[-_LAST:], 0.5)}
        for name, took in ports.items()
    }
    table(f"start of a container with {PORTS} published ports", rows, "ms", base=names.get("boxship", ""))


def capable(engines: list[Engine]) -> list[Engine]:
    """The engines whose networks are measured: Debian's podman has no name server and no bridge without further packages."""
    return [engine for engine in engines if engine.name != "podman"]


async def _starts(engines: list[Engine], rounds: int) -> None:
    rows = [(engine, mode) for engine in engines for mode in ("bridge", "none")]
    labels = {(engine, mode): f"{engine.name}{'' if mode == 'bridge' else ', no network'}" for engine, mode in rows}
    latency: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
    rate: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
    for engine, mode in rows:
        await containers(engine, body(mode), 1, 5)
    for concurrency in CONCURRENCIES:
        times: dict[str, list[float]] = {label: [] for label in labels.values()}
        rates: dict[str, list[float]] = {label: [] for label in labels.values()}
        for _ in range(rounds):
            for engine, mode in rows:
                count = (60 if concurrency == 1 else 160) if engine.name == "boxship" else max(6, concurrency)
                if concurrency > 1 and engine.name != "boxship" and mode == "none":
                    continue
                took, per_second = await containers(engine, body(mode), concurrency, count)
                times[labels[engine, mode]] += took
                rates[labels[engine, mode]].append(per_second)
        for label, took in times.items():
            if took:
                latency[label] |= {f"c={concurrency} least": min(took) * 1000}
                latency[label] |= {f"c={concurrency} p{q}": percentile(took, q / 100) * 1000 for q in (50, 95)}
                rate[label][f"c={concurrency}"] = percentile(rates[label], 0.5)
    for name, (p50, p95) in bare_runtimes(rounds * 20).items():
        latency[f"{name}, no network"] = {"c=1 p50": p50, "c=1 p95": p95}
    table("create + start + wait + remove on the default bridge", latency, "ms")
    table("containers per second on the default bridge", rate, "1/s")
    _judge({label: row["c=1 p50"] for label, row in latency.items()})


def _judge(p50: dict[str, float]) -> None:
    """Print what has to hold, as it is."""
    print()
    if "boxship" not in p50:
        return
    ours = p50["boxship"]
    print(f"a bridge adds {ours - p50['boxship, no network']:.1f} ms to a cold start (wanted: at most 2)")
    if "dockerd" in p50:
        print(f"{p50['dockerd'] / ours:.1f} times faster than dockerd (wanted: at least {FASTER_THAN_DOCKERD:.0f})")
    if "crun, no network" in p50:
        print(f"{ours / p50['crun, no network']:.2f} of crun run without a network (wanted: at most {OF_CRUN})", flush=True)


async def _many_ports(engine: Engine, rounds: int) -> list[float]:
    """Start containers with ports, one after the other; each start's milliseconds, fewer for a peer that takes too long."""
    connection = engine.connection()
    idents: list[str] = []
    took: list[float] = []
    begin = time.monotonic()
    for number in range(MANY):
        if engine.name != "boxship" and time.monotonic() - begin > _PEER_SECONDS * rounds:
            break
        first = _FIRST_PORT + number * PORTS
        bindings = {f"{8000 + n}/tcp": [{"HostPort": str(first + n)}] for n in range(PORTS)}
        exposed: Body = {port: {} for port in bindings}
        described = {
            "Image": image.NAME,
            "Cmd": ["sleep", "100000"],
            "ExposedPorts": exposed,
            "HostConfig": {"NetworkMode": "bridge", "PortBindings": bindings},
        }
        created = await connection.json("POST", "/v1.41/containers/create", described)
        assert isinstance(created, dict)
        idents.append(created["Id"])
        started = time.perf_counter()
        await connection.json("POST", f"/v1.41/containers/{created['Id']}/start")
        took.append((time.perf_counter() - started) * 1000)
    connection.close()
    left = iter(idents)

    async def remover() -> None:
        own = engine.connection()
        for ident in left:
            await own.json("DELETE", f"/v1.41/containers/{ident}?force=1")
        own.close()

    await asyncio.gather(*(remover() for _ in range(4)))
    return took
