"""Docker's limits as values of cgroup v2's files. Source: Documentation/admin-guide/cgroup-v2.rst."""

from __future__ import annotations

import math

from msgspec import Struct

from boxrun.container.cgroups import limits
from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.cgroups.limits import Setting, setting
from boxrun.container.spec import DeviceValue, Resources

DEFAULT_PERIOD = 100_000
"""The kernel's length of a bandwidth period, in µs."""


class Present(Struct, frozen=True):
    """What a group has now: its memory limit in bytes (0: none), its quota in µs (``max``: none)."""

    memory: int = 0
    quota: str = "max"


def cpu_weight(shares: int) -> int:
    """v1's cpu.shares (2 to 262144) as v2's cpu.weight (1 to 10000), so that both ends and both defaults (1024 and 100) meet.

    Source: the curve that runc and crun share, opencontainers/cgroups ``ConvertCPUSharesToCgroupV2Value``.
    """
    if shares <= 2:
        return 1
    if shares >= 262_144:
        return 10_000
    exponent = math.log2(shares)
    return math.ceil(10 ** ((exponent**2 + 125 * exponent) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """v1's blkio.weight (10 to 1000) as v2's io.weight (1 to 10000), linearly."""
    return 1 + (weight - 10) * 9999 // 990


def cpu_max(quota: int | None, period: int | None, present: str = "max") -> str:
    """The bandwidth, ``$MAX`` or ``$MAX $PERIOD``, in µs.

    Args:
        quota: below 0 for no limit; 0 or None leaves ``present``.
        period: 0 or None leaves the present one, as the kernel does where only one number is written.
        present: the quota the group has.
    """
    maximum = (str(quota) if quota > 0 else "max") if quota else present
    return f"{maximum} {period}" if period else maximum


def swap_max(memory: int, memory_swap: int) -> str:
    """Docker's memory plus swap as v2's swap alone, in bytes; -1 means no limit."""
    return "max" if memory_swap < 0 else str(max(0, memory_swap - memory))


def settings(resources: Resources, present: Present | None = None) -> list[Setting]:
    """What to write, in order.

    Args:
        resources: the limits; 0 counts as not set, as in Docker, save for swappiness.
        present: what the group has, where it isn't new.

    Raises:
        CgroupError: a limit that v2 doesn't have and without which a program that needs it can't run.
    """
    if resources.cpu_realtime_period or resources.cpu_realtime_runtime:
        raise CgroupError(limits.REALTIME_MISSING)
    present = present or Present()
    return [*_memory(resources, present), *_cpu(resources, present), *_io(resources)]


def _amount(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(resources: Resources, present: Present) -> list[Setting]:
    found = []
    if resources.memory:
        found.append(setting("memory", "memory.max", _amount(resources.memory), limits.MEMORY_MISSING))
    if resources.memory_swap:
        swap = swap_max(resources.memory or present.memory, resources.memory_swap)
        found.append(setting("memory", "memory.swap.max", swap, limits.SWAP_MISSING))
    if resources.memory_reservation:
        found.append(setting("memory", "memory.low", _amount(resources.memory_reservation), limits.RESERVATION_MISSING))
    if resources.memory_swappiness is not None and resources.memory_swappiness >= 0:
        found.append(Setting("memory", (), limits.SWAPPINESS_MISSING))
    if resources.oom_kill_disable:
        found.append(Setting("memory", (), limits.OOM_KILL_DISABLE_MISSING))
    return found


def _cpu(resources: Resources, present: Present) -> list[Setting]:
    found = []
    if resources.cpu_shares:
        found.append(setting("cpu", "cpu.weight", cpu_weight(resources.cpu_shares), limits.SHARES_MISSING))
    if resources.cpu_quota or resources.cpu_period:
        maximum = cpu_max(resources.cpu_quota, resources.cpu_period, present.quota)
        found.append(setting("cpu", "cpu.max", maximum, limits.QUOTA_MISSING))
    if resources.cpuset_cpus:
        found.append(setting("cpuset", "cpuset.cpus", resources.cpuset_cpus, limits.CPUSET_MISSING))
    if resources.cpuset_mems:
        found.append(setting("cpuset", "cpuset.mems", resources.cpuset_mems, limits.CPUSET_MISSING))
    if resources.pids_limit:
        found.append(setting("pids", "pids.max", _amount(resources.pids_limit), limits.PIDS_MISSING))
    return found


def _io(resources: Resources) -> list[Setting]:
    weights = [("default", resources.blkio_weight, limits.WEIGHT_MISSING)] if resources.blkio_weight else []
    weights += [
        (f"{item.major}:{item.minor}", item.value, limits.WEIGHT_DEVICE_MISSING) for item in resources.blkio_weight_device
    ]
    found = [_weight(*weight) for weight in weights]
    for values, key, unit, direction in (
        (resources.read_bps, "rbps", "BPS", "read"),
        (resources.write_bps, "wbps", "BPS", "write"),
        (resources.read_iops, "riops", "IOPS", "read"),
        (resources.write_iops, "wiops", "IOPS", "write"),
    ):
        missing = limits.THROTTLE_MISSING.format(unit=unit, direction=direction)
        found += [setting("io", "io.max", _throttle(item, key), missing) for item in values]
    return found


def _throttle(item: DeviceValue, key: str) -> str:
    return f"{item.major}:{item.minor} {key}={item.value if item.value > 0 else 'max'}"


def _weight(device: str, weight: int, missing: str) -> Setting:
    """A weight, ``default`` or a device's. The BFQ scheduler has a file of its own, with v1's numbers."""
    writes = (("io.bfq.weight", f"{device} {weight}"), ("io.weight", f"{device} {io_weight(weight)}"))
    return Setting("io", writes, missing)
