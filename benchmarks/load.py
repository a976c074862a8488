"""Many clients at once, for minutes: no answer wrong, nothing left, and no process of ours that grows.

Run: ``python -m benchmarks.load [--clients 200] [--minutes 10] [--json FILE]``, as root.

It starts an engine of its own. Each client goes through scenarios (`benchmarks/scenarios.py`) until the time is up: create,
start, exec, attach, logs, stats, events, inspect, list, wait, stop, kill and remove, whose answers are checked for what they
say. An answer that is wrong or doesn't come, and any status of 500 or above, makes the program fail.

After a warm-up (a fifth of the time; a minute where that is less than half of it, else half) the memory and the descriptors of
every process of ours are sampled, and for each role a line is laid through the samples, per process. It may gain a tenth, or
6 MB for a process that lasts as long as the engine and 0.5 MB for one of many, or 16 descriptors. That is judged only where
samples were taken for a minute: before, memories fill that are bounded (the last 2,048 execs, the last 1,024 events).
At the end everything is removed, and nothing may be left: no file, cgroup, mount or process of a container, no descriptor in
the engine's lasting processes; and nothing at all once the engine has ended.

It prints the percentiles of each operation's time and the trends, and exits with 1 where anything of this isn't so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import msgspec
import uvloop

from benchmarks import image, remains
from benchmarks.api import Api, Tally, Wrong
from benchmarks.engine import Engine, boxship
from benchmarks.processes import Sample, by_role, descriptors, sample
from benchmarks.report import percentile
from benchmarks.scenarios import Client, act
from benchmarks.trend import Trend, trend

WARM_UP = 0.2
"""The share of the time that isn't sampled, at least."""

WARM_UP_SECONDS = 60.0
"""How long an interpreter's heap takes to come to rest under load."""

SHARED = 8
"""Containers that all clients visit."""

LASTING = ("boxshipd", "supervisor", "zygote")
"""Roles of which there is one process, as long as the engine runs."""

_LABEL = "benchmark.load"
_SAMPLES = 100
_SHARE, _LASTING_MB, _MANY_MB, _FDS = 0.1, 6.0, 0.5, 16.0
_JUDGED_SECONDS = 55.0
_SPARE_FDS = 4
_SHOWN = 40


class Outcome(msgspec.Struct):
    """What a run has shown.

    Attributes:
        clients, seconds: how many for how long.
        operations: how many answers of each kind, and their times' percentiles in milliseconds.
        scenarios: how many of each were gone through to the end.
        statuses: how many answers of each HTTP status.
        wrong: answers that were wrong or didn't come.
        trends: by role and figure, a line through the samples after the warm-up.
        judged: whether samples were taken for long enough to tell what is flat.
        grown: figures that aren't.
        at_rest: descriptors of each lasting process before the load and after it.
        left: what was left of containers, and of the engine.
    """

    clients: int
    seconds: float
    operations: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)
    scenarios: dict[str, int] = msgspec.field(default_factory=dict)
    statuses: dict[int, int] = msgspec.field(default_factory=dict)
    wrong: list[str] = msgspec.field(default_factory=list)
    trends: dict[str, dict[str, Trend]] = msgspec.field(default_factory=dict)
    judged: bool = False
    grown: list[str] = msgspec.field(default_factory=list)
    at_rest: dict[str, tuple[int, int]] = msgspec.field(default_factory=dict)
    left: list[str] = msgspec.field(default_factory=list)

    def faults(self) -> list[str]:
        """Everything that isn't as it has to be."""
        faults = [*self.wrong, *self.grown, *self.left]
        faults += [f"status {status}: {count} times" for status, count in self.statuses.items() if status >= 500]
        faults += [
            f"{role}: {before} descriptors before the load, {after} after it"
            for role, (before, after) in self.at_rest.items()
            if after > before + _SPARE_FDS
        ]
        return faults


class Sampler:
    """Samples of an engine's processes while it is under load.

    Args:
        engine: whose.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._moments: dict[str, list[float]] = defaultdict(list)
        self._figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))

    async def until(self, end: float, interval: float) -> None:
        """Take one every ``interval`` seconds until ``end`` (``time.monotonic``)."""
        while (now := time.monotonic()) < end:
            for role, held in (await asyncio.to_thread(sample, self._engine)).items():
                self._note(role, now, held)
            await asyncio.sleep(min(interval, end - now))

    def trends(self) -> dict[str, dict[str, Trend]]:
        """A line through each figure of each role that was there for half of the time at least."""
        most = max(map(len, self._moments.values()), default=0)
        return {
            role: {figure: trend(moments, values) for figure, values in self._figures[role].items()}
            for role, moments in sorted(self._moments.items())
            if len(moments) >= max(4, most / 2)
        }

    def seconds(self) -> float:
        """The time between the first sample and the last."""
        return max((moments[-1] - moments[0] for moments in self._moments.values()), default=0.0)

    def _note(self, role: str, now: float, held: Sample) -> None:
        self._moments[role].append(now)
        # How many there are is the load's affair.
        values = {"count": held.count, "rss": held.rss / held.count, "pss": held.pss / held.count, "fds": held.fds / held.count}
        for figure, value in values.items():
            self._figures[role][figure].append(value)


def grown(trends: dict[str, dict[str, Trend]]) -> list[str]:
    """Which figures aren't flat, by the bounds in this program's description."""
    found = []
    for role, figures in trends.items():
        for figure, line in figures.items():
            mean = (line.first + line.last) / 2
            if figure == "fds":
                room = max(_FDS, _SHARE * mean)
            elif figure == "rss":
                room = max(_LASTING_MB if role in LASTING else _MANY_MB, _SHARE * mean)
            else:
                continue
            if line.exceeds(room):
                found.append(f"{role}: {figure} grew by {line.growth:.1f}, from {line.first:.1f} to {line.last:.1f}")
    return found


async def run(engine: Engine, clients: int, seconds: float) -> Outcome:
    """Put an engine that has the image under load and remove everything again.

    Args:
        engine: ours, without any container.
        clients: how many there are at once.
        seconds: how long they begin new scenarios.
    """
    tally, outcome = Tally(), Outcome(clients, seconds)
    keeper = Client(Api(engine.socket, tally), clients, [], _LABEL)
    # What is there to stay once used (modules, connections of the bus, descriptors) isn't to be taken for a leak.
    await _once_each(engine, tally)
    before = _lasting(engine)
    shared = [await keeper.create("sleep", "1000000") for _ in range(SHARED)]
    for ident in shared:
        await keeper.start(ident)
    begin = time.monotonic()
    sampler = Sampler(engine)
    warm_up = max(seconds * WARM_UP, min(seconds / 2, WARM_UP_SECONDS))
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(_client(Client(Api(engine.socket, tally), number, shared, _LABEL), begin + seconds))
        await asyncio.sleep(warm_up)
        await sampler.until(begin + seconds, max((seconds - warm_up) / _SAMPLES, 0.25))
    await keeper.clean_up()
    listed = await keeper.api.json("list", "GET", "/containers/json", all=1)
    keeper.api.close()
    outcome.left = [f"container {container['Id']}" for container in listed]
    outcome.left += await asyncio.to_thread(remains.settled, lambda: remains.of_containers(engine))
    await asyncio.to_thread(remains.settled, lambda: [role for role, fds in _lasting(engine).items() if fds > before[role]], 5)
    after = _lasting(engine)
    outcome.at_rest = {role: (before[role], after[role]) for role in LASTING}
    outcome.operations = {name: _percentiles(times) for name, times in sorted(tally.seconds.items())}
    outcome.scenarios, outcome.statuses, outcome.wrong = dict(tally.counts), dict(tally.statuses), tally.wrong
    outcome.trends = sampler.trends()
    outcome.judged = sampler.seconds() >= _JUDGED_SECONDS
    outcome.grown = grown(outcome.trends) if outcome.judged else []
    return outcome


async def _client(client: Client, end: float) -> None:
    while time.monotonic() < end:
        await act(client)
    client.api.close()


async def _once_each(engine: Engine, tally: Tally) -> None:
    """Let a few clients do a little of everything."""
    first = Client(Api(engine.socket, tally), -1, [], _LABEL)
    first.shared.append(await first.create("sleep", "1000000"))
    await first.start(first.shared[0])
    clients = [Client(Api(engine.socket, tally), number, first.shared, _LABEL) for number in range(-9, -1)]
    for _ in range(2):
        await asyncio.gather(*map(act, clients))
    for client in (first, *clients):
        await client.clean_up()
        client.api.close()
    await asyncio.to_thread(remains.settled, lambda: remains.of_containers(engine))


def _lasting(engine: Engine) -> dict[str, int]:
    roles = by_role(engine)
    return {role: sum(map(descriptors, roles.get(role, []))) for role in LASTING}


def _percentiles(times: list[float]) -> dict[str, float]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {"count": len(times)} | {name: percentile(times, share) * 1000 for name, share in shares.items()}


def show(outcome: Outcome) -> None:
    """Print tables, and the faults or that there are none."""
    total = sum(outcome.statuses.values())
    print(f"## load: {outcome.clients} clients for {outcome.seconds:.0f} s, {total} answers, {total / outcome.seconds:.0f}/s")
    print("scenarios: " + ", ".join(f"{count} {name}" for name, count in sorted(outcome.scenarios.items())))
    print("statuses: " + ", ".join(f"{count} x {status}" for status, count in sorted(outcome.statuses.items())))
    print("\n| operation | count | p50 ms | p95 ms | p99 ms |\n|---|---:|---:|---:|---:|")
    for name, figures in outcome.operations.items():
        times = " | ".join(f"{figures[share]:.1f}" for share in ("p50", "p95", "p99"))
        print(f"| {name} | {figures['count']:.0f} | {times} |")
    print("\n| role | figure per process | first | last | max | growth |\n|---|---|---:|---:|---:|---:|")
    for role, lines in outcome.trends.items():
        for figure, line in lines.items():
            values = " | ".join(f"{value:.1f}" for value in (line.first, line.last, line.highest))
            print(f"| {role} | {figure} | {values} | {line.growth:+.1f} ± {line.error:.1f} |")
    for role, (before, after) in outcome.at_rest.items():
        print(f"{role} at rest: {before} descriptors before, {after} after")
    faults = outcome.faults()
    print(
        "\n"
        + (
            ("flat" if outcome.judged else "too short to tell what is flat") + ", nothing wrong, nothing left"
            if not faults
            else f"{len(faults)} faults:"
        )
    )
    for fault in faults[:_SHOWN]:
        print(f"- {fault}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description="Many clients at once: correctness, latency, and what it costs over time.")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--json", metavar="FILE", help="write the outcome there as well")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the load runs real containers: be root")
    with boxship() as engine:

        async def loaded() -> Outcome:
            await image.load(engine)
            return await run(engine, options.clients, options.minutes * 60)

        try:
            outcome = uvloop.run(loaded())
        except Wrong as error:
            sys.exit(f"outside of the load: {error}")
        log = (engine.home / "log").read_text(errors="replace")
    outcome.left += remains.settled(lambda: remains.of_engine(engine.home.name), 10)
    show(outcome)
    if options.json:
        Path(options.json).write_text(json.dumps(msgspec.to_builtins(outcome), indent=1))
    if outcome.faults():
        sys.exit(f"the engine's log ends with:\n{log[-3000:]}")


if __name__ == "__main__":
    main()
