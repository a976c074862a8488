"""A container's resource usage.

Source: Docker Engine API v1.51, definition ContainerStatsResponse; the order of fields and what is left out are dockerd's.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

NEVER = "0001-01-01T00:00:00Z"


class PidsStats(Struct, frozen=True, omit_defaults=True):
    """Processes and threads, and how many there may be; 18446744073709551615 for any number on cgroup v2."""

    current: int = 0
    limit: int = 0


class BlkioEntry(Struct, frozen=True):
    """Bytes or operations of one kind on one block device."""

    major: int
    minor: int
    op: str
    value: int


class BlkioStats(Struct, frozen=True):
    """Block I/O; all but the first list is null on cgroup v2."""

    io_service_bytes_recursive: list[BlkioEntry] | None = None
    io_serviced_recursive: list[BlkioEntry] | None = None
    io_queue_recursive: list[BlkioEntry] | None = None
    io_service_time_recursive: list[BlkioEntry] | None = None
    io_wait_time_recursive: list[BlkioEntry] | None = None
    io_merged_recursive: list[BlkioEntry] | None = None
    io_time_recursive: list[BlkioEntry] | None = None
    sectors_recursive: list[BlkioEntry] | None = None


class CPUTimes(Struct, frozen=True):
    """The container's processor time, in ns; by processor only where cgroup v1 counts it so."""

    total_usage: int = 0
    percpu_usage: list[int] | UnsetType = UNSET
    usage_in_kernelmode: int = 0
    usage_in_usermode: int = 0


class ThrottlingData(Struct, frozen=True):
    """What the limit on processor time did; ``throttled_time`` in ns."""

    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class CPUStats(Struct, frozen=True):
    """Processor time of the container, and (in ns) of the whole machine at the same moment."""

    cpu_usage: CPUTimes = CPUTimes()
    system_cpu_usage: int | UnsetType = UNSET
    online_cpus: int | UnsetType = UNSET
    throttling_data: ThrottlingData = ThrottlingData()


class MemoryStats(Struct, frozen=True, omit_defaults=True):
    """Memory in bytes; ``stats`` is the kernel's memory.stat, whose names differ between cgroup v1 and v2."""

    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = {}
    failcnt: int = 0
    limit: int = 0


class NetworkStats(Struct, frozen=True):
    """One interface's counters."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class StatsResponse(Struct, frozen=True):
    """One sample. ``read`` and ``preread`` are RFC 3339; a container that doesn't run has neither times nor numbers."""

    name: str
    id: str
    read: str = NEVER
    preread: str = NEVER
    pids_stats: PidsStats = PidsStats()
    blkio_stats: BlkioStats = BlkioStats()
    num_procs: int = 0
    storage_stats: dict[str, int] = {}
    cpu_stats: CPUStats = CPUStats()
    precpu_stats: CPUStats = CPUStats()
    memory_stats: MemoryStats = MemoryStats()
    networks: dict[str, NetworkStats] | UnsetType = UNSET
