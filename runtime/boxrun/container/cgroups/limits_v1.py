"""Docker's limits as values of cgroup v1's files. Source: Documentation/admin-guide/cgroup-v1/."""

from __future__ import annotations

from boxrun.container.cgroups import limits
from boxrun.container.cgroups.limits import Setting, setting
from boxrun.container.spec import Resources


def settings(resources: Resources) -> list[Setting]:
    """What to write, in order; 0 counts as not set, as in Docker, save for swappiness."""
    return [*_memory(resources), *_cpu(resources), *_cpuset(resources), *_pids(resources), *_blkio(resources)]


def _memory(resources: Resources) -> list[Setting]:
    found = []
    if resources.memory:
        found.append(setting("memory", "memory.limit_in_bytes", resources.memory, limits.MEMORY_MISSING))
    if resources.memory_swap:
        found.append(setting("memory", "memory.memsw.limit_in_bytes", resources.memory_swap, limits.SWAP_MISSING))
    if resources.memory_reservation:
        found.append(setting("memory", "memory.soft_limit_in_bytes", resources.memory_reservation, limits.RESERVATION_MISSING))
    if resources.memory_swappiness is not None and resources.memory_swappiness >= 0:
        found.append(setting("memory", "memory.swappiness", resources.memory_swappiness, limits.SWAPPINESS_MISSING))
    if resources.oom_kill_disable:
        found.append(setting("memory", "memory.oom_control", 1, limits.OOM_KILL_DISABLE_MISSING))
    return found


def _cpu(resources: Resources) -> list[Setting]:
    found = []
    if resources.cpu_shares:
        found.append(setting("cpu", "cpu.shares", resources.cpu_shares, limits.SHARES_MISSING))
    if resources.cpu_period:
        found.append(setting("cpu", "cpu.cfs_period_us", resources.cpu_period, limits.QUOTA_MISSING))
    if resources.cpu_quota:
        found.append(setting("cpu", "cpu.cfs_quota_us", max(-1, resources.cpu_quota), limits.QUOTA_MISSING))
    if resources.cpu_realtime_period:
        found.append(setting("cpu", "cpu.rt_period_us", resources.cpu_realtime_period))
    if resources.cpu_realtime_runtime:
        found.append(setting("cpu", "cpu.rt_runtime_us", resources.cpu_realtime_runtime))
    return found


def _cpuset(resources: Resources) -> list[Setting]:
    found = []
    for value, file in ((resources.cpuset_cpus, "cpus"), (resources.cpuset_mems, "mems")):
        if value:
            # The files lose their prefix where the hierarchy was mounted with noprefix, as the old cpuset file system was.
            found.append(Setting("cpuset", ((f"cpuset.{file}", value), (file, value)), limits.CPUSET_MISSING))
    return found


def _pids(resources: Resources) -> list[Setting]:
    if not resources.pids_limit:
        return []
    value = "max" if resources.pids_limit < 0 else resources.pids_limit
    return [setting("pids", "pids.max", value, limits.PIDS_MISSING)]


def _blkio(resources: Resources) -> list[Setting]:
    found = []
    if resources.blkio_weight:
        value = str(resources.blkio_weight)
        writes = (("blkio.weight", value), ("blkio.bfq.weight", value))
        found.append(Setting("blkio", writes, limits.WEIGHT_MISSING))
    for item in resources.blkio_weight_device:
        value = f"{item.major}:{item.minor} {item.value}"
        writes = (("blkio.weight_device", value), ("blkio.bfq.weight_device", value))
        found.append(Setting("blkio", writes, limits.WEIGHT_DEVICE_MISSING))
    for values, direction, unit in (
        (resources.read_bps, "read", "bps"),
        (resources.write_bps, "write", "bps"),
        (resources.read_iops, "read", "iops"),
        (resources.write_iops, "write", "iops"),
    ):
        file = f"blkio.throttle.{direction}_{unit}_device"
        missing = limits.THROTTLE_MISSING.format(unit=unit.upper(), direction=direction)
        found += [setting("blkio", file, f"{item.major}:{item.minor} {item.value}", missing) for item in values]
    return found
