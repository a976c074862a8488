"""One suite for every implementation: groups, their processes and their limits, with the real kernel."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

import pytest
from boxrun.container.cgroups import CgroupBusyError, CgroupError, InvalidLimitError, detect, limits
from boxrun.container.spec import DeviceRule, DeviceValue
from support.daemon import PATIENCE

MIB = 1 << 20
SECONDS = 10 * PATIENCE
"""In a virtual machine whose disk is busy, even to end a process can take longer: it may be reading its program."""
NULL = DeviceRule(allow=True, kind="c", major=1, minor=3)
NOTHING = DeviceRule(allow=False, kind="a")
ALLOCATE = "head -c 100000000 /dev/zero | tail -c 100000000 >/dev/null; echo survived"


def test_detect_finds_one():
    assert detect().version in ("1", "2")


def test_a_group_holds_its_processes_until_they_are_killed(machine_):
    with machine_.create() as group:
        process = machine_.run(group, "sleep 60 & wait")
        group.joined()
        assert process.pid in group.pids()
        group.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
        assert group.wait_empty(SECONDS)
        assert group.pids() == []
        group.remove()
    assert not [path for path in machine_.directories() if path.rstrip("/").endswith("/c")]


def test_remove_kills_what_is_left_and_takes_groups_below_along(machine_):
    group = machine_.create()
    below = f"/proc/self/fd/{group.fd}/below"
    os.makedirs(f"{below}/deeper")
    process = machine_.run(group, "sleep 60 & wait")
    Path(f"{below}/deeper/cgroup.procs").write_text(str(process.pid))
    assert process.pid in group.pids()
    group.remove()
    assert process.wait(SECONDS) == -signal.SIGKILL
    assert not [path for path in machine_.directories() if path.rstrip("/").endswith("/c")]


def test_removing_what_is_gone_is_no_error(machine_):
    first, second = machine_.create(), machine_.open()
    first.remove()
    second.kill()
    second.remove()


def test_signal_reaches_every_process(machine_):
    with machine_.create() as group:
        script = "trap 'exit 42' TERM; echo ready; while :; do sleep 60 & wait; done"
        processes = [machine_.run(group, script) for _ in range(3)]
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        group.signal(signal.SIGTERM)
        assert [process.wait(SECONDS) for process in processes] == [42, 42, 42]


def test_a_frozen_group_stands_still(machine_):
    with machine_.create() as group:
        process = machine_.run(group, "trap 'exit 42' TERM; echo ready; while :; do :; done")
        assert process.stdout.readline() == "ready\n"
        group.freeze()
        assert "frozen 1" in machine_.file("cgroup.events")
        group.signal(signal.SIGTERM)
        assert "frozen 1" in machine_.file("cgroup.events")
        assert process.poll() is None
        group.thaw()
        assert process.wait(SECONDS) == 42


def test_an_empty_leftover_is_replaced_and_one_in_use_is_not(machine_):
    machine_.create().close()
    with machine_.create() as group:
        process = machine_.run(group, "sleep 60")
        with pytest.raises(CgroupBusyError, match="in use"):
            machine_.create()
        assert process.poll() is None
        group.remove()


def test_nothing_stays_of_a_group_that_failed(machine_):
    with pytest.raises(InvalidLimitError):
        machine_.create(memory=64 * MIB, devices=(NOTHING, DeviceRule(allow=True, kind="c", access="z")))
    assert not [path for path in machine_.directories() if path.rstrip("/").endswith("/c")]
    for name in ("a/b", "..", ""):
        with pytest.raises(InvalidLimitError):
            machine_.create(name)


def test_open_wants_an_existing_group(machine_):
    with pytest.raises(CgroupError, match="No such file"):
        machine_.open()
    with machine_.create() as group:
        process = machine_.run(group, "sleep 60")
    with machine_.open() as again:
        assert process.pid in again.pids()
        again.remove()


def test_sweep_removes_what_nobody_keeps(machine_):
    kept, lost, empty = (machine_.create(name) for name in ("kept", "lost", "empty"))
    processes = [machine_.run(group, "sleep 60") for group in (kept, lost)]
    for group in (kept, lost, empty):
        group.close()
    assert machine_.cgroups.sweep(machine_.parent, {"kept"}) == ["empty", "lost"]
    assert processes[1].wait(SECONDS) == -signal.SIGKILL
    assert processes[0].poll() is None
    assert not [path for path in machine_.directories() if path.rstrip("/").endswith(("/lost", "/empty"))]
    assert machine_.cgroups.sweep("/boxship-test-never-made", ()) == []


def test_device_rules_hold_and_can_be_changed(machine_):
    rules = (NOTHING, NULL)
    machine_.cgroups.preload(rules)
    with machine_.create(devices=rules) as group:
        script = "echo x >/dev/null && echo null; head -c1 /dev/zero >/dev/null && echo zero; true"
        assert "null\n" in (output := machine_.run(group, script).communicate(timeout=10)[0])
        assert "zero\n" not in output
        assert "Operation not permitted" in output
    with machine_.open() as again:
        again.update(make_resources(devices=(NOTHING, NULL, DeviceRule(allow=True, kind="c", major=1, minor=5, access="r"))))
    with machine_.open() as again:
        again.join_fds = []
        assert "zero\n" in machine_.run(again, script).communicate(timeout=10)[0]


def make_resources(**values):
    from boxrun.container.spec import Resources

    return Resources(**values)


def test_memory_is_limited_and_kills_are_counted(machine_):
    machine_.need("memory")
    with machine_.create(memory=20 * MIB, memory_swap=20 * MIB) as group:
        assert group.warnings == []
        watch = group.oom_watch()
        assert watch is not None
        poller = select.poll()
        poller.register(*watch)
        assert group.oom_kills() == 0
        assert poller.poll(0) == []
        process = machine_.run(group, ALLOCATE)
        assert poller.poll(20_000)
        assert "survived" in process.communicate(timeout=20)[0]
        assert group.oom_kills() >= 1
        os.close(watch[0])


def test_memory_limits_rise_and_fall(machine_):
    machine_.need("memory")
    with machine_.create(memory=64 * MIB, memory_swap=128 * MIB) as group:
        for memory, both in ((256, 512), (32, 48)):
            assert group.update(make_resources(memory=memory * MIB, memory_swap=both * MIB)) == []
            if machine_.cgroups.version == "1":
                found = machine_.file("memory.limit_in_bytes"), machine_.file("memory.memsw.limit_in_bytes")
                assert found == (str(memory * MIB), str(both * MIB))
            else:
                assert (machine_.file("memory.max"), machine_.file("memory.swap.max")) == (
                    str(memory * MIB),
                    str((both - memory) * MIB),
                )


def test_processes_are_limited(machine_):
    machine_.need("pids")
    with machine_.create(pids_limit=3) as group:
        output = machine_.run(group, "sleep 0.01 & sleep 0.01 & sleep 0.01 & sleep 0.01 & wait; echo done").communicate(
            timeout=10
        )
        assert "fork" in output[0].lower()


def test_a_limit_that_comes_later_holds_for_processes_already_there(machine_):
    machine_.need("pids", "cpuset")
    with machine_.create() as group:
        process = machine_.run(group, "sleep 60 & wait")
        assert group.update(make_resources(pids_limit=50, cpuset_cpus="0")) == []
        assert machine_.file("pids.max") == "50"
        group.freeze()
        assert int(machine_.file("pids.current")) == len(group.pids())
        assert os.sched_getaffinity(process.pid) == {0}
        assert process.poll() is None
        group.remove()


def test_cpu_limits(machine_):
    machine_.need("cpu")
    with machine_.create(cpu_shares=512, cpu_quota=50_000, cpu_period=200_000) as group:
        assert group.warnings == []
        group.update(make_resources(cpu_quota=900_000, cpu_period=900_000))
        group.update(make_resources(cpu_quota=5_000, cpu_period=10_000))
        if machine_.cgroups.version == "1":
            assert machine_.file("cpu.shares") == "512"
            assert (machine_.file("cpu.cfs_quota_us"), machine_.file("cpu.cfs_period_us")) == ("5000", "10000")
        else:
            assert machine_.file("cpu.weight") == "59"
            assert machine_.file("cpu.max") == "5000 10000"
            group.update(make_resources(cpu_period=20_000))
            assert machine_.file("cpu.max") == "5000 20000"


def test_cpus_are_limited_and_impossible_ones_refused(machine_):
    machine_.need("cpuset")
    with machine_.create(cpuset_cpus="0") as group:
        process = machine_.run(group, "exec sleep 60")
        assert os.sched_getaffinity(process.pid) == {0}
        group.remove()
    with pytest.raises(CgroupError, match=r"set cpuset.cpus of cgroup .* to 'nonsense'"):
        machine_.create(cpuset_cpus="nonsense")
    assert not [path for path in machine_.directories() if path.rstrip("/").endswith("/c")]


def test_block_devices_are_throttled_and_missing_weights_warned_of(machine_):
    machine_.need("io")
    disk = next(iter(block_devices()), None)
    if disk is None:
        pytest.skip("no block device here")
    rate = (DeviceValue(major=disk[0], minor=disk[1], value=MIB),)
    with machine_.create(read_bps=rate, write_iops=rate, blkio_weight=500) as group:
        text = machine_.file("blkio.throttle.read_bps_device" if machine_.cgroups.version == "1" else "io.max")
        assert text.startswith(f"{disk[0]}:{disk[1]} ")
        assert str(MIB) in text
        weighs = any(list(Path(path).glob("*.weight")) for path in machine_.directories() if path.rstrip("/").endswith("/c"))
        assert group.warnings == ([] if weighs else [limits.WEIGHT_MISSING])


def block_devices():
    for device in Path("/sys/block").iterdir():
        major, minor = (device / "dev").read_text().split(":")
        if int((device / "size").read_text()):
            yield int(major), int(minor)


def test_limits_the_kernel_lacks_are_warned_of(machine_):
    wanted = {
        "memory": {"memory": 64 * MIB},
        "cpu": {"cpu_shares": 5},
        "cpuset": {"cpuset_cpus": "0"},
        "pids": {"pids_limit": 5},
    }
    missing = {key: value for name, limit in wanted.items() if not machine_.has(name) for key, value in limit.items()}
    with machine_.create(**missing) as group:
        assert len(group.warnings) == len(missing)


def test_v1_groups_that_kept_processes_are_removed(machine_):
    """A crash can leave a group in one hierarchy only, with a process in it."""
    machine_.need("memory")
    if machine_.cgroups.version == "2":
        pytest.skip("there is one hierarchy only")
    machine_.create().remove()
    parent = next(Path(path) for path in machine_.directories() if "/memory/" in path)
    (parent / "lost" / "below").mkdir(parents=True)
    process = subprocess.Popen(["sleep", "60"])
    (parent / "lost" / "below" / "cgroup.procs").write_text(str(process.pid))
    assert machine_.cgroups.sweep(machine_.parent, ()) == ["lost"]
    assert process.wait(SECONDS) == -signal.SIGKILL
