"""A group's files as numbers, of either kind of hierarchy; and the values that undo a change."""

from __future__ import annotations

import os

import pytest
from boxrun.container.cgroups import CgroupError, limits
from boxrun.container.cgroups.limits import all_or_none, apply, setting
from boxrun.container.cgroups.statistics import Statistics
from boxrun.container.usage import CpuUsage, IoCount, TaskUsage

CPU_STAT = "usage_usec 2000\nuser_usec 1500\nsystem_usec 500\nnr_periods 4\nnr_throttled 2\nthrottled_usec 30\n"


@pytest.fixture
def directory(tmp_path):
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    os.close(opened)


def test_unified(tmp_path, directory):
    files = {
        "cpu.stat": CPU_STAT,
        "memory.current": "4096\n",
        "memory.max": "max\n",
        "memory.stat": "anon 1\nfile 2\ninactive_file 3\n",
        "memory.events": "low 0\noom 5\noom_kill 4\n",
        "pids.current": "3\n",
        "pids.max": "10\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    statistics = Statistics("2", directory, dict.fromkeys(("cpu", "memory", "pids", "io"), (directory, "")))
    assert statistics.cpu() == CpuUsage(
        total=2_000_000, user=1_500_000, system=500_000, periods=4, throttled_periods=2, throttled_time=30_000
    )
    memory = statistics.memory()
    assert (memory.usage, memory.limit, memory.highest, memory.failures) == (4096, 0, 0, 5)
    assert memory.details == {"anon": 1, "file": 2, "inactive_file": 3}
    assert statistics.tasks() == TaskUsage(current=3, limit=10)
    read, operations = statistics.io()
    assert read[:2] == (IoCount(8, 0, "read", 10), IoCount(8, 0, "write", 20))
    assert operations is None


def test_hybrid(tmp_path, directory):
    for name in ("memory", "cpu", "cpuacct", "blkio"):
        (tmp_path / name / "c").mkdir(parents=True)
    files = {
        "cpu.stat": CPU_STAT,
        "cpu/c/cpu.stat": "nr_periods 7\nnr_throttled 6\nthrottled_time 50\n",
        "cpuacct/c/cpuacct.usage_percpu": "100 200 \n",
        "memory/c/memory.usage_in_bytes": "8192\n",
        "memory/c/memory.max_usage_in_bytes": "9000\n",
        "memory/c/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/c/memory.failcnt": "1\n",
        "memory/c/memory.stat": "cache 1\ntotal_cache 2\n",
        "blkio/c/blkio.throttle.io_service_bytes_recursive": "8:0 Read 1\n8:0 Total 1\nTotal 1\n",
        "blkio/c/blkio.throttle.io_serviced": "8:0 Read 9\n",
        "cgroup.threads": "1\n2\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/cgroup.threads").write_text("3\n")
    for name in ("memory", "cpu", "cpuacct", "blkio"):
        for path in (tmp_path / name, tmp_path / name / "c"):
            (path / "cgroup.threads").write_text("")
    places = {name: (directory, f"{name}/c/") for name in ("memory", "cpu", "cpuacct", "blkio", "pids")}
    statistics = Statistics("1", directory, places)
    cpu = statistics.cpu()
    assert (cpu.total, cpu.per_cpu, cpu.periods, cpu.throttled_periods, cpu.throttled_time) == (2_000_000, (100, 200), 7, 6, 50)
    memory = statistics.memory()
    assert (memory.usage, memory.highest, memory.limit, memory.failures) == (8192, 9000, 0, 1)
    assert statistics.tasks() == TaskUsage(current=3, limit=0), "threads, here and below, where no controller counts them"
    assert statistics.io() == ((IoCount(8, 0, "Read", 1), IoCount(8, 0, "Total", 1)), (IoCount(8, 0, "Read", 9),))


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_the_kernel_has_not(version, tmp_path, directory):
    (tmp_path / "cgroup.threads").write_text("1\n")
    statistics = Statistics(version, directory, {"memory": (directory, "")})
    assert (statistics.cpu(), statistics.memory(), statistics.io()) == (None, None, None)
    assert statistics.tasks() == TaskUsage(current=1)


@pytest.mark.parametrize(
    ("value", "text", "restored"),
    [
        ("100", "max\n", "max"),
        ("50000 100000", "max 100000\n", "max 100000"),
        ("8:0 77", "8:16 5\n8:0 6\n", "8:0 6"),
        ("8:0 77", "8:16 5\n", "8:0 0"),
        ("8:0 rbps=77", "", "8:0 rbps=max"),
        ("8:0 rbps=77", "8:0 rbps=5 wbps=max riops=max wiops=max\n", "8:0 rbps=5 wbps=max riops=max wiops=max"),
        ("default 77", "default 100\n8:0 5\n", "default 100"),
    ],
)
def test_what_undoes_a_change(tmp_path, directory, value, text, restored):
    file = tmp_path / "file"
    file.write_text(text)
    wanted = [setting("io", "file", value)]
    places = {"io": (directory, "")}
    with pytest.raises(CgroupError):
        _fail_after(file, lambda: apply(wanted, places, "c"), all_or_none(wanted, places, "c"))
    assert file.read_text() == restored


def _fail_after(file, change, undoing):
    with undoing:
        change()
        # What is written to a cgroup's file replaces what it said.
        file.write_text("")
        raise CgroupError("refused")


def test_a_file_that_was_not_there_is_left_alone(tmp_path, directory):
    wanted = [setting("pids", "pids.max", "5"), setting("none", "x", "1", limits.PIDS_MISSING)]
    with pytest.raises(CgroupError), all_or_none(wanted, {"pids": (directory, "")}, "c"):
        raise CgroupError("refused")
    assert list(tmp_path.iterdir()) == []
