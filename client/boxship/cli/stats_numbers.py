"""From a sample to the columns of ``stats``. Source: docker/cli cli/command/container/stats_helpers.go, formatter_stats.go."""

from __future__ import annotations

from typing import Any

from boxship.units import binary_size, human_size

TITLES = {
    "Container": "CONTAINER",
    "Name": "NAME",
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_UNKNOWN = "--"


def row(container: str, sample: dict[str, Any] | None, *, truncate: bool) -> dict[str, str]:
    """A sample's values by column; dashes where there is none.

    Args:
        container: the name or id it was asked for by.
        sample: an answer of ContainerStats.
        truncate: whether to shorten ids.
    """
    if sample is None:
        pair = f"{_UNKNOWN} / {_UNKNOWN}"
        values = dict.fromkeys(TITLES, _UNKNOWN)
        return values | {"Container": container, "ID": container[:12] if truncate else container, "MemUsage": pair}
    identifier = sample.get("id", "")
    memory = sample.get("memory_stats") or {}
    used, limit = memory_used(memory), memory.get("limit", 0)
    received, sent = network(sample.get("networks") or {})
    read, written = block_io(sample.get("blkio_stats") or {})
    return {
        "Container": container,
        "Name": sample.get("name", "")[1:] or _UNKNOWN,
        "ID": identifier[:12] if truncate else identifier,
        "CPUPerc": f"{cpu_percentage(sample):.2f}%",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}",
        "MemPerc": f"{used / limit * 100 if limit else 0:.2f}%",
        "NetIO": f"{human_size(received)} / {human_size(sent)}",
        "BlockIO": f"{human_size(read)} / {human_size(written)}",
        "PIDs": str((sample.get("pids_stats") or {}).get("current", 0)),
    }


def cpu_percentage(sample: dict[str, Any]) -> float:
    """Processor time since the sample before, one processor being 100."""
    now, before = sample.get("cpu_stats") or {}, sample.get("precpu_stats") or {}
    usage = now.get("cpu_usage") or {}
    used = usage.get("total_usage", 0) - (before.get("cpu_usage") or {}).get("total_usage", 0)
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    processors = now.get("online_cpus", 0) or len(usage.get("percpu_usage") or ())
    return used / passed * processors * 100 if used > 0 and passed > 0 else 0.0


def memory_used(memory: dict[str, Any]) -> int:
    """Memory in bytes without the files that the kernel could drop at once, which both kinds of cgroup name differently."""
    usage: int = memory.get("usage", 0)
    details = memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):
        if name in details and details[name] < usage:
            return usage - int(details[name])
    return usage


def network(interfaces: dict[str, dict[str, int]]) -> tuple[int, int]:
    """Bytes received and sent on all interfaces."""
    counters = interfaces.values()
    return sum(one["rx_bytes"] for one in counters), sum(one["tx_bytes"] for one in counters)


def block_io(blkio: dict[str, Any]) -> tuple[int, int]:
    """Bytes read and written on all devices."""
    read = written = 0
    for entry in blkio.get("io_service_bytes_recursive") or ():
        first = entry["op"][:1].lower()
        if first == "r":
            read += entry["value"]
        elif first == "w":
            written += entry["value"]
    return read, written
