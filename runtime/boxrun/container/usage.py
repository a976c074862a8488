"""What a container uses of the machine, as the kernel counts it: the messages. Times in ns, sizes in bytes."""

from __future__ import annotations

from msgspec import Struct


class CpuUsage(Struct, frozen=True, kw_only=True):
    """Processor time since the container's start; ``per_cpu`` is empty where the kernel doesn't count it for the group."""

    total: int
    user: int
    system: int
    per_cpu: tuple[int, ...] = ()
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0


class MemoryUsage(Struct, frozen=True, kw_only=True):
    """Memory now. ``limit`` 0 for none; ``highest`` only with cgroup v1; ``details`` is memory.stat."""

    usage: int
    limit: int
    highest: int = 0
    failures: int = 0
    details: dict[str, int] = {}


class TaskUsage(Struct, frozen=True, kw_only=True):
    """Processes and threads now; ``limit`` 0 for none."""

    current: int
    limit: int = 0


class IoCount(Struct, frozen=True, array_like=True):
    """Bytes or operations of one kind on one block device since the container's start."""

    major: int
    minor: int
    kind: str
    value: int


class NetworkUsage(Struct, frozen=True, array_like=True):
    """An interface's counters: bytes, packets, errors and dropped packets, received and sent."""

    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


class Usage(Struct, frozen=True, kw_only=True):
    """One container at one moment.

    Args:
        id: the container.
        read_at: ns since the epoch.
        cpu, memory, tasks: None where the kernel has no such controller.
        io_bytes: bytes moved; None as above.
        io_operations: operations; None with cgroup v2, where Docker tells nothing of them, and as above.
        networks: the counters of each interface but loopback; empty where the network is the host's.
    """

    id: str
    read_at: int
    cpu: CpuUsage | None = None
    memory: MemoryUsage | None = None
    tasks: TaskUsage | None = None
    io_bytes: tuple[IoCount, ...] | None = None
    io_operations: tuple[IoCount, ...] | None = None
    networks: dict[str, NetworkUsage] = {}
