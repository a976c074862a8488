"""Docker's limits as the values the kernel wants, and how a list of them is written."""

from __future__ import annotations

import os

import pytest
from boxrun.container.cgroups import CgroupError, limits, limits_v1, limits_v2
from boxrun.container.cgroups.limits_v2 import Present
from boxrun.container.spec import DeviceValue, Resources
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20


def written(settings):
    """The first choice of every setting."""
    return [wanted.writes[0] for wanted in settings]


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (0, 1), (1024, 100), (262_144, 10_000), (1 << 30, 10_000), (512, 59)])
def test_shares_and_weight_meet_at_ends_and_default(shares, weight):
    assert limits_v2.cpu_weight(shares) == weight


@given(st.integers(2, 262_143))
def test_more_shares_never_mean_less_weight(shares):
    assert 1 <= limits_v2.cpu_weight(shares) <= limits_v2.cpu_weight(shares + 1) <= 10_000


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (1000, 10_000), (500, 4950)])
def test_io_weight(weight, converted):
    assert limits_v2.io_weight(weight) == converted


@pytest.mark.parametrize(
    ("quota", "period", "present", "text"),
    [
        (50_000, 100_000, "max", "50000 100000"),
        (50_000, None, "max", "50000"),
        (-1, None, "7", "max"),
        (None, 20_000, "7000", "7000 20000"),
        (0, 20_000, "max", "max 20000"),
    ],
)
def test_cpu_max(quota, period, present, text):
    assert limits_v2.cpu_max(quota, period, present) == text


@pytest.mark.parametrize(
    ("memory", "both", "swap"), [(64 * MIB, 128 * MIB, str(64 * MIB)), (64 * MIB, 64 * MIB, "0"), (64 * MIB, -1, "max")]
)
def test_swap_is_what_exceeds_memory(memory, both, swap):
    found = written(limits_v2.settings(Resources(memory=memory, memory_swap=both)))
    assert found == [("memory.max", str(memory)), ("memory.swap.max", swap)]


def test_swap_alone_is_counted_from_the_present_memory_limit():
    found = limits_v2.settings(Resources(memory_swap=100), Present(memory=60))
    assert written(found) == [("memory.swap.max", "40")]


def test_v2_values():
    resources = Resources(
        memory=-1,
        memory_reservation=32 * MIB,
        cpu_shares=1024,
        cpuset_cpus="0-1",
        cpuset_mems="0",
        pids_limit=-1,
        read_bps=(DeviceValue(major=8, minor=0, value=1000),),
        write_bps=(DeviceValue(major=8, minor=0, value=0),),
        read_iops=(DeviceValue(major=8, minor=16, value=5),),
        write_iops=(DeviceValue(major=8, minor=16, value=6),),
    )
    assert written(limits_v2.settings(resources)) == [
        ("memory.max", "max"),
        ("memory.low", str(32 * MIB)),
        ("cpu.weight", "100"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "max"),
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:0 wbps=max"),
        ("io.max", "8:16 riops=5"),
        ("io.max", "8:16 wiops=6"),
    ]


def test_v2_block_weights_prefer_bfq():
    resources = Resources(blkio_weight=1000, blkio_weight_device=(DeviceValue(major=8, minor=0, value=10),))
    assert [wanted.writes for wanted in limits_v2.settings(resources)] == [
        (("io.bfq.weight", "default 1000"), ("io.weight", "default 10000")),
        (("io.bfq.weight", "8:0 10"), ("io.weight", "8:0 1")),
    ]


def test_v1_values():
    resources = Resources(
        memory=64 * MIB,
        memory_swap=-1,
        memory_reservation=32 * MIB,
        memory_swappiness=0,
        oom_kill_disable=True,
        cpu_shares=512,
        cpu_period=20_000,
        cpu_quota=-5,
        cpu_realtime_period=1_000_000,
        cpu_realtime_runtime=1000,
        cpuset_cpus="1",
        pids_limit=7,
        blkio_weight=300,
        read_bps=(DeviceValue(major=8, minor=0, value=1000),),
        write_iops=(DeviceValue(major=8, minor=0, value=9),),
    )
    assert written(limits_v1.settings(resources)) == [
        ("memory.limit_in_bytes", str(64 * MIB)),
        ("memory.memsw.limit_in_bytes", "-1"),
        ("memory.soft_limit_in_bytes", str(32 * MIB)),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
        ("cpu.shares", "512"),
        ("cpu.cfs_period_us", "20000"),
        ("cpu.cfs_quota_us", "-1"),
        ("cpu.rt_period_us", "1000000"),
        ("cpu.rt_runtime_us", "1000"),
        ("cpuset.cpus", "1"),
        ("pids.max", "7"),
        ("blkio.weight", "300"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio.throttle.write_iops_device", "8:0 9"),
    ]


@pytest.mark.parametrize("module", [limits_v1, limits_v2])
def test_nothing_set_writes_nothing(module):
    zeros = Resources(memory=0, memory_swap=0, cpu_shares=0, cpu_quota=0, cpu_period=0, pids_limit=0, memory_swappiness=-1)
    assert module.settings(Resources()) == module.settings(zeros) == []


def test_v2_refuses_realtime_and_warns_of_what_it_lacks():
    with pytest.raises(CgroupError, match="real-time"):
        limits_v2.settings(Resources(cpu_realtime_runtime=1))
    found = limits_v2.settings(Resources(memory_swappiness=10, oom_kill_disable=True))
    assert limits.apply(found, {"memory": (-1, "")}, "/x") == [limits.SWAPPINESS_MISSING, limits.OOM_KILL_DISABLE_MISSING]


@pytest.fixture
def place(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield {"io": (fd, ""), "memory": (fd, "")}
    os.close(fd)


def test_the_first_file_that_exists_is_written(tmp_path, place):
    (tmp_path / "io.weight").touch()
    assert limits.apply(limits_v2.settings(Resources(blkio_weight=1000)), place, "/x") == []
    assert (tmp_path / "io.weight").read_text() == "default 10000"


def test_missing_files_and_controllers_become_one_warning_each(place):
    devices = tuple(DeviceValue(major=8, minor=minor, value=10) for minor in (0, 16))
    found = limits_v2.settings(Resources(memory=MIB, pids_limit=5, read_bps=devices))
    warnings = limits.apply(found, place, "/x")
    assert warnings == [
        limits.MEMORY_MISSING,
        limits.PIDS_MISSING,
        limits.THROTTLE_MISSING.format(unit="BPS", direction="read"),
    ]


def test_a_limit_without_a_warning_must_be_there(place):
    with pytest.raises(CgroupError, match=r"set cpu.rt_runtime_us of cgroup /x to '1': No such file"):
        limits.apply(limits_v1.settings(Resources(cpu_realtime_runtime=1)), place, "/x")
