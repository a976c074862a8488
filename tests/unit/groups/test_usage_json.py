"""Samples as Docker's JSON, to the letter."""

from __future__ import annotations

import json

import msgspec
from boxrun.container.usage import CpuUsage, IoCount, MemoryUsage, NetworkUsage, TaskUsage, Usage
from boxrun.supervisor.contract import UsageReply
from boxshipd import host
from boxshipd.containers.usage import empty_sample, sample

ID = "ab" * 32
NOTHING = '{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}}'
LISTS = ("io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time", "sectors")


def test_of_a_container_that_does_not_run(container):
    nulls = ",".join(f'"{name}_recursive":null' for name in LISTS)
    assert msgspec.json.encode(empty_sample(container)).decode() == (
        f'{{"name":"/box","id":"{ID}","read":"0001-01-01T00:00:00Z","preread":"0001-01-01T00:00:00Z","pids_stats":{{}},'
        f'"blkio_stats":{{{nulls}}},"num_procs":0,"storage_stats":{{}},"cpu_stats":{NOTHING},"precpu_stats":{NOTHING},'
        '"memory_stats":{}}'
    )


def shown(container, version, **fields):
    usage = Usage(id=ID, read_at=1_700_000_000_500_000_000, **fields)
    reply = UsageReply(cgroup_version=version, system_time=99, processors=2, containers=(usage,))
    return json.loads(msgspec.json.encode(sample(container, reply, usage)))


def test_cgroup_v1(container):
    found = shown(
        container,
        "1",
        cpu=CpuUsage(total=3, user=2, system=1, per_cpu=(1, 2), periods=4, throttled_periods=5, throttled_time=6),
        memory=MemoryUsage(usage=10, limit=0, highest=11, failures=12, details={"cache": 1, "total_cache": 2, "new_thing": 3}),
        tasks=TaskUsage(current=7),
        io_bytes=(IoCount(8, 0, "Read", 1),),
        io_operations=(IoCount(8, 0, "Read", 2),),
        networks={"eth0": NetworkUsage(1, 2, 3, 4, 5, 6, 7, 8)},
    )
    assert found["read"] == "2023-11-14T22:13:20.5Z"
    assert found["pids_stats"] == {"current": 7}
    assert found["cpu_stats"] == {
        "cpu_usage": {"total_usage": 3, "percpu_usage": [1, 2], "usage_in_kernelmode": 1, "usage_in_usermode": 2},
        "system_cpu_usage": 99,
        "online_cpus": 2,
        "throttling_data": {"periods": 4, "throttled_periods": 5, "throttled_time": 6},
    }
    assert found["memory_stats"] == {
        "usage": 10, "max_usage": 11, "stats": {"cache": 1, "total_cache": 2}, "failcnt": 12, "limit": host.memory_total(),
    }  # fmt: skip
    assert found["blkio_stats"] == {f"{name}_recursive": [] for name in LISTS} | {
        "io_service_bytes_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 1}],
        "io_serviced_recursive": [{"major": 8, "minor": 0, "op": "Read", "value": 2}],
    }
    names = ("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped")
    assert found["networks"] == {"eth0": dict(zip(names, range(1, 9), strict=True))}


def test_cgroup_v2(container):
    found = shown(
        container,
        "2",
        cpu=CpuUsage(total=3, user=2, system=1),
        memory=MemoryUsage(
            usage=10,
            limit=100,
            failures=1,
            details={"anon": 5, "workingset_refault_anon": 1, "workingset_refault_file": 2, "zswap": 1},
        ),
        tasks=TaskUsage(current=7),
        io_bytes=(IoCount(8, 0, "read", 1), IoCount(8, 0, "write", 0)),
    )
    assert found["pids_stats"] == {"current": 7, "limit": 18446744073709551615}
    assert "percpu_usage" not in found["cpu_stats"]["cpu_usage"]
    assert found["memory_stats"] == {
        "usage": 10,
        "stats": {"anon": 5, "workingset_refault": 3, "workingset_activate": 0},
        "failcnt": 1,
        "limit": 100,
    }
    assert found["blkio_stats"]["io_service_bytes_recursive"][0] == {"major": 8, "minor": 0, "op": "read", "value": 1}
    assert found["blkio_stats"]["io_serviced_recursive"] is None
    assert "networks" not in found


def test_a_machine_without_controllers(container):
    found = shown(container, "2")
    assert (found["memory_stats"], found["pids_stats"]) == ({}, {})
    assert found["cpu_stats"]["online_cpus"] == 2
