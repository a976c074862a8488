"""Every limit of HostConfig: what the kernel makes of it, or what the answer says instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
MB = 1 << 20


def file(v1: str, v2: str) -> str:
    return f"cat /sys/fs/cgroup/{v2 if UNIFIED else v1}"


@pytest.mark.parametrize(
    ("host", "files", "expected"),
    [
        ({"CpuShares": 512}, ("cpu/cpu.shares", "cpu.weight"), ("512", "59")),
        ({"CpuPeriod": 50_000, "CpuQuota": 25_000}, ("cpu/cpu.cfs_quota_us", "cpu.max"), ("25000", "25000 50000")),
        ({"CpuPeriod": 50_000, "CpuQuota": 25_000}, ("cpu/cpu.cfs_period_us", "cpu.max"), ("50000", "25000 50000")),
        ({"NanoCpus": 500_000_000}, ("cpu/cpu.cfs_quota_us", "cpu.max"), ("50000", "50000 100000")),
        ({"Memory": 64 * MB}, ("memory/memory.limit_in_bytes", "memory.max"), (str(64 * MB),) * 2),
        (
            {"Memory": 64 * MB, "MemorySwap": 96 * MB},
            ("memory/memory.memsw.limit_in_bytes", "memory.swap.max"),
            (str(96 * MB), str(32 * MB)),
        ),
        ({"MemoryReservation": 32 * MB}, ("memory/memory.soft_limit_in_bytes", "memory.low"), (str(32 * MB),) * 2),
        ({"PidsLimit": 50}, ("pids/pids.max", "pids.max"), ("50", "50")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_limits_are_the_kernels(isolated, host, files, expected):
    lines = isolated.run(file(*files), **host)
    assert isolated.warnings == []
    assert lines[0] == expected[UNIFIED]


def test_a_weight_is_the_kernels_or_said_to_be_discarded(isolated):
    lines = isolated.run(f"cat /sys/fs/cgroup/{'io.*weight' if UNIFIED else 'blkio/blkio*weight'}", code=None, BlkioWeight=300)
    if isolated.warnings:
        message = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
        assert isolated.warnings == [message]
    else:
        assert any(line in ("300", "default 300", "default 2930") for line in lines), lines


@pytest.mark.skipif(UNIFIED, reason="cgroup v2 has neither")
def test_swappiness_and_the_oom_killer_can_be_turned_down(isolated):
    lines = isolated.run(
        "cat /sys/fs/cgroup/memory/memory.swappiness; head -1 /sys/fs/cgroup/memory/memory.oom_control",
        MemorySwappiness=7,
        OomKillDisable=True,
        Memory=64 * MB,
    )
    assert lines == ["7", "oom_kill_disable 1"]


def test_more_memory_than_allowed_ends_the_program(isolated):
    ident = isolated.start("tail -c 100000000 /dev/zero > /dev/null", Memory=16 * MB, MemorySwap=16 * MB)
    assert isolated.daemon.request("POST", f"/containers/{ident}/wait")[1]["StatusCode"] == 137
    assert isolated.daemon.inspect(ident)["State"]["OOMKilled"] is True


def test_more_processes_than_allowed_cannot_be_forked(isolated):
    lines = isolated.run("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo unreachable", code=None, PidsLimit=5)
    assert any("can't fork" in line for line in lines)


def test_a_quota_throttles(isolated):
    stat = "/sys/fs/cgroup/cpu.stat" if UNIFIED else "/sys/fs/cgroup/cpu/cpu.stat"
    script = f"i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; grep nr_throttled {stat}"
    (line,) = isolated.run(script, CpuPeriod=10_000, CpuQuota=2_000)
    assert int(line.split()[1]) > 0


def test_processors_and_memory_nodes(isolated):
    last = str(max(os.sched_getaffinity(0)))
    lines = isolated.run("grep -E '^(Cpus|Mems)_allowed_list' /proc/self/status", CpusetCpus=last, CpusetMems="0")
    assert [line.split()[1] for line in lines] == [last, "0"]


def block_device() -> str:
    """A block device that a limit can be set on, whether anything uses it or not."""
    for name in sorted(os.listdir("/sys/block")):
        if os.path.exists(f"/dev/{name}"):
            return f"/dev/{name}"
    pytest.skip("no block device")


@pytest.mark.parametrize(
    ("field", "v1", "v2"),
    [
        ("BlkioDeviceReadBps", "blkio.throttle.read_bps_device", "rbps"),
        ("BlkioDeviceWriteBps", "blkio.throttle.write_bps_device", "wbps"),
        ("BlkioDeviceReadIOps", "blkio.throttle.read_iops_device", "riops"),
        ("BlkioDeviceWriteIOps", "blkio.throttle.write_iops_device", "wiops"),
    ],
)
def test_throttled_devices(isolated, field, v1, v2):
    device = block_device()
    number = os.stat(device).st_rdev
    (line,) = isolated.run(file(f"blkio/{v1}", "io.max"), **{field: [{"Path": device, "Rate": 1 << 20}]})
    assert line.startswith(f"{os.major(number)}:{os.minor(number)} ")
    assert f"{v2}=1048576" in line if UNIFIED else line.endswith(" 1048576")
    assert "is not a block device" in isolated.refused(**{field: [{"Path": "/dev/null", "Rate": 5}]})
    assert "/dev/no-such-device" in isolated.refused(**{field: [{"Path": "/dev/no-such-device", "Rate": 5}]})


def test_a_devices_weight(isolated):
    device = block_device()
    number = os.stat(device).st_rdev
    message = isolated.refused(BlkioWeightDevice=[{"Path": device, "Weight": 5}])
    assert message == "Range of blkio weight is from 10 to 1000"
    body = {"BlkioWeightDevice": [{"Path": device, "Weight": 200}]}
    ident = isolated.create(file("blkio/blkio.bfq.weight_device", "io.bfq.weight"), **body)
    status, answer = isolated.daemon.request("POST", f"/containers/{ident}/start")
    if status == 204:
        isolated.daemon.request("POST", f"/containers/{ident}/wait")
        assert any(f"{os.major(number)}:{os.minor(number)}" in line for line in isolated.output(ident))
    else:
        # The kernel takes a device's weight only while BFQ schedules it.
        assert "weight" in answer["message"]


def test_real_time_needs_a_budget(isolated):
    """v1 shares out real-time budgets from parents, which have none by default; v2 has no such controller."""
    message = isolated.refused(CpuRealtimeRuntime=1000)
    assert "real-time" in message


def test_ulimits(isolated):
    lines = isolated.run(
        "ulimit -Sn; ulimit -Hn; ulimit -c",
        Ulimits=[{"Name": "nofile", "Soft": 64, "Hard": 128}, {"Name": "core", "Soft": 0, "Hard": 0}],
    )
    assert lines == ["64", "128", "0"]


def test_what_privileges_do_not_allow_is_said_at_creation(isolated):
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    if int(effective.split()[1], 16) >> 24 & 1:
        pytest.skip("with CAP_SYS_RESOURCE everything is allowed")
    lines = isolated.run(
        "ulimit -Hn; cat /proc/self/oom_score_adj",
        Ulimits=[{"Name": "nofile", "Soft": 64, "Hard": 1 << 40}],
        OomScoreAdj=-900,
    )
    assert int(lines[0]) < 1 << 40
    assert lines[1] != "-900"
    assert [warning.partition(":")[0] for warning in isolated.warnings] == [
        "ulimit nofile",
        "oom_score_adj -900 needs CAP_SYS_RESOURCE, the present one stays",
    ]


def test_oom_score(isolated):
    assert isolated.run("cat /proc/self/oom_score_adj", OomScoreAdj=432) == ["432"]


def test_a_parent_of_its_own(isolated):
    parent = f"/{isolated.daemon.name}-other"
    ident = isolated.start("sleep 1000", CgroupParent=parent)
    pid = isolated.daemon.inspect(ident)["State"]["Pid"]
    groups = {line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    assert f"{parent}/{ident}" in groups


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"Memory": MB}, "Minimum memory limit allowed is 6MB"),
        ({"MemorySwap": 8 * MB}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
        ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
        ({"NanoCpus": 10**12}, "range of CPUs is from 0.01 to"),
        ({"CpusetCpus": "900"}, "Requested CPUs are not available - requested 900, available:"),
        ({"KernelMemory": 8 * MB}, "kernel memory limits are no longer supported by the kernel"),
        ({"CpuCount": 2}, "--cpu-count is not available yet"),
        ({"IOMaximumIOps": 2}, "--io-maxiops is not available yet"),
        ({"Isolation": "hyperv"}, 'invalid isolation "hyperv" on linux'),
        ({"StorageOpt": {"size": "1g"}}, "--storage-opt"),
        ({"DeviceCgroupRules": ["x 1:1 r"]}, "invalid device cgroup rule format: 'x 1:1 r'"),
        ({"Runtime": "nosuch"}, "unknown or invalid runtime name: nosuch"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused(isolated, host, message):
    assert message in isolated.refused(**host)
