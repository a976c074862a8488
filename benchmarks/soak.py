"""Followers of logs for a long time, while the daemon is killed again and again: `python -m benchmarks.soak [--minutes N]`.

Containers write numbered lines at different rates into logs that rotate every few seconds. Followers come, read, stall, break
off and come back, and go; boxshipd is killed with SIGKILL and started again every minute. At the end the containers are
stopped, and whoever follows then must see their last lines.

It fails (exit status 1) where any follower's lines are not complete (``benchmarks.follower`` says what that means), and where
memory or descriptors of any process of ours grow: boxshipd is compared at the same age, just before it is killed. Nor may
anything be left of the containers when they are removed, or of the engine when it has ended.

Logs keep ``Plan.rotation * Plan.kept_files`` seconds of what a container writes, several times the longest time for which a
follower reads nothing: so no line is missing because it was rotated away.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Callable

import msgspec

from benchmarks import image, remains
from benchmarks.engine import Engine, boxship, kill_and_restart
from benchmarks.follower import FaultError, Follower, Kind
from benchmarks.log_stream import RefusedError
from benchmarks.processes import History, by_role, descriptors, sample

_PAD = "x" * 59
_BYTES_PER_LINE = {"json-file": 140, "local": 75}
_WARM_UP_SHARE = 0.2
_SAMPLES = 60
_FD_ROOM = 5
_SCRIPT = (
    "i=0; go=1; trap 'go=' TERM; while [ $go ]; do j=0; while [ $j -lt {burst} ]; do echo $i {pad}; i=$((i+1)); j=$((j+1));"
    " done; sleep {pause}; done; echo $i end"
)


class Rate(msgspec.Struct, frozen=True):
    """How a container writes: so many lines, then so many seconds of rest."""

    burst: int
    pause: float


RATES = (Rate(1, 0.2), Rate(20, 0.5), Rate(10, 0.1), Rate(200, 1.0), Rate(200, 0.5))


class Plan(msgspec.Struct, frozen=True):
    """What a run is.

    Attributes:
        containers: how many write.
        followers: how many read at a time.
        seconds: how long it takes, without the time in which there is no boxshipd.
        period: how long a boxshipd lives, in seconds.
        visit: the shortest and the longest visit of a follower in seconds.
        stall: the longest time for which one reads nothing, in seconds.
        rotation: seconds from one rotation of a log to the next, about.
        kept_files: how many files of a log there are at most.
    """

    containers: int
    followers: int
    seconds: float
    period: float = 60.0
    visit: tuple[float, float] = (20.0, 150.0)
    stall: float = 20.0
    rotation: float = 8.0
    kept_files: int = 30


class Outcome(msgspec.Struct):
    """What came of a run: figures, and what went wrong."""

    faults: list[str] = []
    visits: int = 0
    lines: int = 0
    connections: int = 0
    discarded: int = 0
    stalls: int = 0
    kills: int = 0
    slowest_return: float = 0.0


class Soak:
    """A run on an engine of its own.

    Args:
        engine: a Boxship with the benchmark image.
        plan: what to do.
        seed: of everything random.
    """

    def __init__(self, engine: Engine, plan: Plan, seed: int = 0) -> None:
        self._engine = engine
        self._plan = plan
        self._random = random.Random(seed)
        self._containers: list[str] = []
        self._closing = asyncio.Event()
        self.outcome = Outcome()
        self.daemon = History(warm_up=1 + int(_WARM_UP_SHARE * plan.seconds / plan.period))
        self.others = History(warm_up=int(_WARM_UP_SHARE * _SAMPLES))

    async def run(self) -> Outcome:
        """Do all of it."""
        plan = self._plan
        fresh = self._daemon_descriptors()
        for number in range(plan.containers):
            self._containers.append(await self._start(number))
        followers = [asyncio.create_task(self._follower(number)) for number in range(plan.followers)]
        sampler = asyncio.create_task(self._sampler())
        await self._killer()
        sampler.cancel()
        await asyncio.wait([sampler])
        # From here on nobody goes: all who follow now see the ends.
        self._closing.set()
        await asyncio.gather(*(self._call("POST", f"{ident}/stop?t=60") for ident in self._containers))
        results = await asyncio.gather(*followers, return_exceptions=True)
        if not sampler.cancelled():
            results.append(sampler.exception())
        self.outcome.faults += [f"{type(result).__name__}: {result}" for result in results if isinstance(result, BaseException)]
        await asyncio.gather(*(self._call("DELETE", ident) for ident in self._containers))
        await self._settled(fresh)
        self.outcome.faults += await asyncio.to_thread(remains.settled, lambda: remains.of_containers(self._engine))
        self.outcome.faults += [*self.daemon.grown(), *self.others.grown()]
        return self.outcome

    async def _start(self, number: int) -> str:
        rate = RATES[number % len(RATES)]
        driver = "json-file" if number // len(RATES) % 2 else "local"
        size = max(1024, round(rate.burst / rate.pause * _BYTES_PER_LINE[driver] * self._plan.rotation))
        body = self._engine.body("sh", "-c", _SCRIPT.format(burst=rate.burst, pause=rate.pause, pad=_PAD), image=image.NAME)
        options = {"max-size": str(size), "max-file": str(self._plan.kept_files), "compress": str(number % 3 == 0).lower()}
        body["HostConfig"] = {**self._engine.host_config, "LogConfig": {"Type": driver, "Config": options}}
        connection = self._engine.connection()
        created = await connection.json("POST", "/containers/create", body)
        assert isinstance(created, dict)
        await connection.json("POST", f"/containers/{created['Id']}/start")
        connection.close()
        return str(created["Id"])

    async def _call(self, method: str, path: str) -> None:
        """An act on a container, which has to succeed."""
        connection = self._engine.connection()
        await connection.json(method, f"/containers/{path}")
        connection.close()

    async def _follower(self, number: int) -> None:
        """One visit after the other; the last one, which sees the container's end, has no limit."""
        random_ = random.Random(self._random.random())
        while not self._closing.is_set():
            kind: Kind = "positions" if number % 2 else "plain"
            ident = random_.choice(self._containers)
            follower = Follower(
                self._engine.socket, ident, kind, tail=random_.choice((1, 50, 500)), stall=self._staller(random_)
            )
            leaving = asyncio.Event()
            timer = asyncio.create_task(self._leave(leaving, random_.uniform(*self._plan.visit)))
            try:
                await follower.follow(leaving)
            except (FaultError, RefusedError) as fault:
                self.outcome.faults.append(str(fault))
            finally:
                timer.cancel()
            self.outcome.visits += 1
            self.outcome.lines += follower.lines
            self.outcome.connections += follower.connections
            self.outcome.discarded += follower.discarded

    async def _leave(self, leaving: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not self._closing.is_set():
            leaving.set()

    def _staller(self, random_: random.Random) -> Callable[[], float]:
        """Every visit has its own character: some never stall, some often."""
        likelihood = random_.choice((0.0, 0.01, 0.05))

        def stall() -> float:
            if self._closing.is_set() or random_.random() >= likelihood:
                return 0.0
            self.outcome.stalls += 1
            return random_.uniform(0, self._plan.stall)

        return stall

    async def _killer(self) -> None:
        """The daemon's lives, each but the last ended by SIGKILL, and looked at just before."""
        lives = max(1, round(self._plan.seconds / self._plan.period))
        for life in range(lives):
            await asyncio.sleep(self._plan.period)
            roles = await asyncio.to_thread(sample, self._engine)
            self.daemon.add({role: held for role, held in roles.items() if role == "boxshipd"})
            if life < lives - 1:
                begin = time.monotonic()
                await asyncio.to_thread(kill_and_restart, self._engine)
                self.outcome.kills += 1
                self.outcome.slowest_return = max(self.outcome.slowest_return, time.monotonic() - begin)

    async def _sampler(self) -> None:
        """Those that live on are looked at whenever."""
        while True:
            await asyncio.sleep(self._plan.seconds / _SAMPLES)
            roles = await asyncio.to_thread(sample, self._engine)
            self.others.add({role: held for role, held in roles.items() if role != "boxshipd"})

    def _daemon_descriptors(self) -> int:
        return sum(map(descriptors, by_role(self._engine)["boxshipd"]))

    async def _settled(self, fresh: int) -> None:
        """Whether the daemon has given everything back, once nobody follows anything and nothing runs."""
        deadline = time.monotonic() + 30
        while (held := self._daemon_descriptors()) > fresh + _FD_ROOM:
            if time.monotonic() > deadline:
                self.outcome.faults.append(f"boxshipd holds {held} descriptors after everybody has gone, {fresh} when it began")
                return
            await asyncio.sleep(0.1)


def _report(soak: Soak) -> None:
    outcome = soak.outcome
    print(
        f"{outcome.kills} kills of boxshipd (back within {outcome.slowest_return:.1f} s), {outcome.visits} visits of followers"
    )
    print(f"{outcome.lines} lines in {outcome.connections} connections, {outcome.discarded} discarded, {outcome.stalls} stalls")
    print("\n| per process, first third and last | processes | RSS MB | PSS MB | descriptors |\n|---|---:|---:|---:|---:|")
    for history in (soak.daemon, soak.others):
        for role in history.roles():
            if pair := history.first_and_last(role):
                first, last = pair
                print(
                    f"| {role} | {first.count} to {last.count} | {first.rss:.1f} to {last.rss:.1f} "
                    f"| {first.pss:.2f} to {last.pss:.2f} | {first.fds} to {last.fds} |"
                )
    for fault in outcome.faults:
        print(f"FAULT: {fault}")


def main() -> None:
    """Run it and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=50)
    parser.add_argument("--followers", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("the soak runs real containers: be root")
    print(f"soak: seed {options.seed}", flush=True)
    with boxship() as engine:
        asyncio.run(image.load(engine))
        soak = Soak(engine, Plan(options.containers, options.followers, options.minutes * 60), options.seed)
        asyncio.run(soak.run())
        _report(soak)
    if left := remains.settled(lambda: remains.of_engine(engine.home.name), 10):
        sys.exit(f"FAULT: left by the engine: {left}")
    sys.exit(1 if soak.outcome.faults else 0)


if __name__ == "__main__":
    main()
