"""A group's statistics: what both implementations' files say, in one form.

Processor time and tasks come from cgroup2 on every machine, since every container has a group there whatever limits it has:
cpu.stat needs no controller, and where no pids controller counts for the group its threads are counted one by one. Only what
cgroup2 can't tell beside v1's controllers (memory, throttling, I/O, time per processor) is read of those.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,cpuacct,blkio-controller}.rst.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Literal

from boxrun.container.cgroups import tree
from boxrun.container.cgroups.limits import Place
from boxrun.container.usage import CpuUsage, IoCount, MemoryUsage, TaskUsage

UNLIMITED = 1 << 62
"""v1 shows a limit that isn't one as the largest multiple of a page, which is above this."""

Io = tuple[IoCount, ...]


class Statistics:
    """Reads one group.

    Args:
        version: which implementation's files the controllers have.
        directory: the group's cgroup2 directory.
        places: where each controller's files are; of v1, a group may be missing there.
    """

    __slots__ = ("_directory", "_places", "_unified")

    def __init__(self, version: Literal["1", "2"], directory: int, places: Mapping[str, Place]) -> None:
        self._unified = version == "2"
        self._directory = directory
        self._places = places

    def cpu(self) -> CpuUsage | None:
        """Processor time. Raises OSError."""
        text = self._own("cpu.stat")
        if text is None:
            return None
        own = tree.numbers(text)
        per_cpu = "" if self._unified else self._read("cpuacct", "cpuacct.usage_percpu") or ""
        throttling, unit = own, 1000
        if not self._unified:
            throttling, unit = tree.numbers(self._read("cpu", "cpu.stat") or ""), 1
        return CpuUsage(
            total=own.get("usage_usec", 0) * 1000,
            user=own.get("user_usec", 0) * 1000,
            system=own.get("system_usec", 0) * 1000,
            per_cpu=tuple(map(int, per_cpu.split())),
            periods=throttling.get("nr_periods", 0),
            throttled_periods=throttling.get("nr_throttled", 0),
            throttled_time=throttling.get("throttled_usec" if self._unified else "throttled_time", 0) * unit,
        )

    def memory(self) -> MemoryUsage | None:
        """Memory; None where no controller counts it for the group. Raises OSError."""
        if self._unified:
            usage = self._read("memory", "memory.current")
            if usage is None:
                return None
            limit = (self._read("memory", "memory.max") or "max").strip()
            return MemoryUsage(
                usage=int(usage),
                limit=0 if limit == "max" else int(limit),
                failures=tree.numbers(self._read("memory", "memory.events") or "").get("oom", 0),
                details=tree.numbers(self._read("memory", "memory.stat") or ""),
            )
        usage = self._read("memory", "memory.usage_in_bytes")
        if usage is None:
            return None
        bound = self._number("memory", "memory.limit_in_bytes")
        return MemoryUsage(
            usage=int(usage),
            limit=0 if bound >= UNLIMITED else bound,
            highest=self._number("memory", "memory.max_usage_in_bytes"),
            failures=self._number("memory", "memory.failcnt"),
            details=tree.numbers(self._read("memory", "memory.stat") or ""),
        )

    def tasks(self) -> TaskUsage:
        """Processes and threads. Raises OSError."""
        current = self._read("pids", "pids.current")
        if current is None:
            return TaskUsage(current=_threads(self._directory))
        limit = (self._read("pids", "pids.max") or "max").strip()
        return TaskUsage(current=int(current), limit=0 if limit == "max" else int(limit))

    def io(self) -> tuple[Io, Io | None] | None:
        """Bytes and operations on block devices. None where no controller counts them for the group. Raises OSError."""
        if self._unified:
            text = self._read("io", "io.stat")
            return None if text is None else (_io_v2(text), None)
        found = []
        for what in ("io_service_bytes", "io_serviced"):
            names = (f"blkio.throttle.{what}_recursive", f"blkio.throttle.{what}")
            text = next((text for text in (self._read("blkio", name) for name in names) if text is not None), None)
            if text is None:
                return None
            found.append(_io_v1(text))
        return found[0], found[1]

    def _number(self, controller: str, file: str) -> int:
        return int(self._read(controller, file) or 0)

    def _own(self, file: str) -> str | None:
        try:
            return tree.read(self._directory, file)
        except FileNotFoundError:
            return None

    def _read(self, controller: str, file: str) -> str | None:
        """A controller's file; None where the group or the kernel has none."""
        place = self._places.get(controller)
        if place is None:
            return None
        directory, prefix = place
        try:
            return tree.read(directory, prefix + file)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return None
            raise


def _threads(directory: int) -> int:
    """How many threads are in a group and below. A group that vanishes meanwhile has none. Raises OSError."""
    try:
        count = tree.read(directory, "cgroup.threads").count("\n")
        names = tree.children(directory)
    except OSError as error:
        # A group that others have made a threaded one below shows its threads there only.
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return 0
        raise
    for name in names:
        try:
            below = tree.open_directory(name, directory)
        except FileNotFoundError:
            continue
        try:
            count += _threads(below)
        finally:
            os.close(below)
    return count


def _io_v1(text: str) -> Io:
    """``8:0 Read 4096`` lines; the ``Total 4096`` that ends them isn't a device's."""
    found = []
    for words in (line.split() for line in text.splitlines()):
        if len(words) == 3:
            major, _, minor = words[0].partition(":")
            found.append(IoCount(int(major), int(minor), words[1], int(words[2])))
    return tuple(found)


def _io_v2(text: str) -> Io:
    """The bytes of ``8:0 rbytes=4096 wbytes=0 rios=1 ...`` lines."""
    found = []
    for words in (line.split() for line in text.splitlines()):
        if not words or ":" not in words[0]:
            continue
        major, _, minor = words[0].partition(":")
        values = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        for key, kind in (("rbytes", "read"), ("wbytes", "write")):
            found.append(IoCount(int(major), int(minor), kind, int(values.get(key, 0))))
    return tuple(found)
