"""An engine's own processes by role: what each holds (memory, descriptors), what it has used, and whether that grows.

What runs inside containers isn't counted: it is in other PID namespaces.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from benchmarks.engine import Engine
from benchmarks.memory import family, pss
from benchmarks.report import percentile
from benchmarks.trend import trend

_TICKS = os.sysconf("SC_CLK_TCK")
_DEAD = "ZX"
_SHIM = "boxrun-shim"
_KEEPERS = {
    b"boxrun-zygote": "spare",
    b"boxrun-shim": "keeper",
    b"boxrun-exec": "exec keeper",
    b"boxrun-holder": "holder",
    b"boxrun-prober": "prober",
}
"""Roles of a shim's process that stays, by its title; a spare one still has the zygote's."""


class Sample(msgspec.Struct, frozen=True):
    """What the processes of one role hold at one moment, summed up over them.

    Attributes:
        count: how many processes they are.
        rss: resident set sizes in MB.
        pss: proportional set sizes in MB.
        fds: open descriptors.
    """

    count: int
    rss: float
    pss: float
    fds: int


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor seconds that processes, and those they have waited for, have used so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def by_role(engine: Engine) -> dict[str, list[int]]:
    """The process ids of an engine's own living processes by role.

    Roles are boxshipd, supervisor, zygote, prober, keeper (a shim's process that stays), exec keeper (an exec's), spare (a
    shim's without orders), the worker of each (the one that comes and goes), and what is on its way into a container; of other
    engines the programs' names.
    """
    ours = os.readlink("/proc/self/ns/pid")
    names: dict[int, tuple[str, int]] = {}
    for pid in family(engine):
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != ours:
                continue
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            state, parent_pid = rest.split()[:2]
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if state in _DEAD:
            continue
        if b"boxshipd." in command:
            name = "boxshipd"
        elif b"boxrun.supervisor" in command:
            name = "supervisor"
        elif name == _SHIM:
            name = _KEEPERS.get(command.partition(b" ")[0], name)
        names[pid] = (name, int(parent_pid))
    roles: dict[str, list[int]] = {}
    for pid, (name, parent) in names.items():
        role = name.removeprefix("boxrun-")
        above, further = names.get(parent, ("", 0))
        if name in _KEEPERS.values() and above != "boxrun-zygote":
            # Below its keeper a process has the keeper's name, but the zygote's title.
            keeps = names.get(further, ("", 0))[0] == "boxrun-zygote"
            role = {"spare": "spare worker", "exec keeper": "exec worker"}.get(above, "worker") if keeps else "on its way in"
        roles.setdefault(role, []).append(pid)
    return roles


def rss(pid: int) -> float:
    """A process's resident set size in MB; 0 where it has gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    except OSError:
        return 0.0


def descriptors(pid: int) -> int:
    """How many descriptors a process has open; 0 where it has gone."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def sample(engine: Engine) -> dict[str, Sample]:
    """What an engine's own processes hold now, by role."""
    return {
        role: Sample(len(pids), sum(map(rss, pids)), pss(set(pids)), sum(map(descriptors, pids)))
        for role, pids in by_role(engine).items()
    }


class History:
    """Samples over time, of which the first ones are warm-up; says what has grown since.

    Sums are judged per process, since how many there are is the load's affair.

    Args:
        warm_up: how many samples to leave out at the beginning.
    """

    def __init__(self, warm_up: int) -> None:
        self._warm_up = warm_up
        self._moments: list[float] = []
        self._samples: list[Mapping[str, Sample]] = []

    def add(self, roles: Mapping[str, Sample]) -> None:
        """Note one moment's samples by role."""
        self._moments.append(time.monotonic())
        self._samples.append(roles)

    def roles(self) -> list[str]:
        """The roles that were seen after the warm-up."""
        return sorted({role for _, roles in self._after_warm_up() for role in roles})

    def first_and_last(self, role: str) -> tuple[Sample, Sample] | None:
        """The medians per process of the first and the last third; None where there are too few samples to tell."""
        seen = [roles[role] for _, roles in self._after_warm_up() if role in roles]
        third = len(seen) // 3
        return (_per_process(seen[:third]), _per_process(seen[-third:])) if third else None

    def grown(self, *, share: float = 0.1, megabytes: float = 2.0, fds: float = 4.0) -> list[str]:
        """What grows, per process, by more than ``share`` and by more than so many MB or descriptors."""
        found = []
        for role in self.roles():
            pair = self.first_and_last(role)
            if pair is None:
                continue
            seen = [(when, roles[role]) for when, roles in self._after_warm_up() if role in roles]
            moments = [when for when, _ in seen]
            for what, room, before, values in (
                ("RSS in MB", megabytes, pair[0].rss, [held.rss / held.count for _, held in seen]),
                ("PSS in MB", megabytes, pair[0].pss, [held.pss / held.count for _, held in seen]),
                ("descriptors", fds, pair[0].fds, [held.fds / held.count for _, held in seen]),
            ):
                line = trend(moments, values)
                if line.exceeds(max(room, share * before)):
                    found.append(f"{role}: {what} per process grow by {line.growth:.1f}, from {before:.1f} at first")
        return found

    def _after_warm_up(self) -> list[tuple[float, Mapping[str, Sample]]]:
        return list(zip(self._moments, self._samples, strict=True))[self._warm_up :]


def _per_process(samples: list[Sample]) -> Sample:
    """The median of each figure, divided by the number of processes."""
    return Sample(
        count=round(percentile([sample.count for sample in samples], 0.5)),
        rss=percentile([sample.rss / sample.count for sample in samples], 0.5),
        pss=percentile([sample.pss / sample.count for sample in samples], 0.5),
        fds=round(percentile([sample.fds / sample.count for sample in samples], 0.5)),
    )


def processor_seconds(engine: Engine) -> float:
    """Processor time in seconds of an engine's processes, those that have ended and been waited for included."""
    total = 0
    for pid in family(engine):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(ticks) for ticks in fields[11:15])
    return total / _TICKS
