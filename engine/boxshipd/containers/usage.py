"""From what the runtime counts to what ``stats`` shows, on either kind of cgroup.

Source: moby daemon/stats_unix.go (statsV1, statsV2).
"""

from __future__ import annotations

from boxrun.container.usage import IoCount, Usage
from boxrun.supervisor.contract import UsageReply
from boxship.types.stats import (
    BlkioEntry,
    BlkioStats,
    CPUStats,
    CPUTimes,
    MemoryStats,
    NetworkStats,
    PidsStats,
    StatsResponse,
    ThrottlingData,
)
from msgspec import UNSET

from boxshipd import host
from boxshipd.containers.model import Container
from boxshipd.times import rfc3339

_ANY_NUMBER = (1 << 64) - 1
"""How Docker writes that there is no limit on processes with cgroup v2; with v1 it writes nothing."""

_DETAILS_V1 = frozenset(
    name
    for plain in (
        *("cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pgpgin", "pgpgout", "pgfault", "pgmajfault"),
        *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable"),
    )
    for name in (plain, f"total_{plain}")
) | {"hierarchical_memory_limit", "hierarchical_memsw_limit"}
_DETAILS_V2 = frozenset(
    [
        *("anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp"),
        *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable"),
        *("slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate"),
        *("workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree"),
        *("pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc"),
    ]
)
"""What Docker passes on of memory.stat. Where the kernel counts refaults and activations by kind, they are added up."""


def empty_sample(container: Container) -> StatsResponse:
    """The sample of a container that doesn't run."""
    return StatsResponse(name=f"/{container.name}", id=container.id)


def sample(container: Container, reply: UsageReply, usage: Usage | None) -> StatsResponse:
    """One container's sample; that of one that doesn't run where ``usage`` is None."""
    if usage is None:
        return empty_sample(container)
    unified = reply.cgroup_version == "2"
    return StatsResponse(
        name=f"/{container.name}",
        id=container.id,
        read=rfc3339(usage.read_at),
        pids_stats=_pids(usage, unified),
        blkio_stats=_blkio(usage, unified),
        cpu_stats=_cpu(usage, reply),
        memory_stats=_memory(usage, unified),
        networks={name: NetworkStats(*_fields(counters)) for name, counters in usage.networks.items()} or UNSET,
    )


def _fields(counters: object) -> list[int]:
    return [getattr(counters, name) for name in counters.__struct_fields__]  # type: ignore[attr-defined]


def _pids(usage: Usage, unified: bool) -> PidsStats:
    if usage.tasks is None:
        return PidsStats()
    return PidsStats(current=usage.tasks.current, limit=usage.tasks.limit or (_ANY_NUMBER if unified else 0))


def _cpu(usage: Usage, reply: UsageReply) -> CPUStats:
    cpu = usage.cpu
    if cpu is None:
        return CPUStats(system_cpu_usage=reply.system_time, online_cpus=reply.processors)
    return CPUStats(
        cpu_usage=CPUTimes(
            total_usage=cpu.total,
            percpu_usage=list(cpu.per_cpu) or UNSET,
            usage_in_kernelmode=cpu.system,
            usage_in_usermode=cpu.user,
        ),
        system_cpu_usage=reply.system_time,
        online_cpus=reply.processors,
        throttling_data=ThrottlingData(
            periods=cpu.periods, throttled_periods=cpu.throttled_periods, throttled_time=cpu.throttled_time
        ),
    )


def _memory(usage: Usage, unified: bool) -> MemoryStats:
    memory = usage.memory
    if memory is None:
        return MemoryStats()
    total = host.memory_total()
    if unified:
        details = {name: memory.details[name] for name in memory.details if name in _DETAILS_V2}
        for name in ("workingset_refault", "workingset_activate"):
            if name not in details:
                details[name] = sum(memory.details.get(f"{name}_{kind}", 0) for kind in ("anon", "file"))
    else:
        details = {name: memory.details[name] for name in memory.details if name in _DETAILS_V1}
    return MemoryStats(
        usage=memory.usage,
        max_usage=memory.highest,
        stats=details,
        failcnt=memory.failures,
        limit=min(memory.limit or total, total),
    )


def _blkio(usage: Usage, unified: bool) -> BlkioStats:
    if unified:
        return BlkioStats(io_service_bytes_recursive=_entries(usage.io_bytes) or None)
    if usage.io_bytes is None:
        return BlkioStats()
    return BlkioStats(
        io_service_bytes_recursive=_entries(usage.io_bytes),
        io_serviced_recursive=_entries(usage.io_operations),
        io_queue_recursive=[],
        io_service_time_recursive=[],
        io_wait_time_recursive=[],
        io_merged_recursive=[],
        io_time_recursive=[],
        sectors_recursive=[],
    )


def _entries(counts: tuple[IoCount, ...] | None) -> list[BlkioEntry]:
    return [BlkioEntry(count.major, count.minor, count.kind, count.value) for count in counts or ()]
