"""What containers are promised of cgroup v2, each by what the kernel then does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from support.daemon import wait_until

MIB = 1 << 20
BUSY = ("sh", "-c", "while :; do :; done")
SPARE = Path("/dev/vdb")


def usage(machine, ident: str) -> int:
    """Processor time so far, in µs."""
    lines = (machine.group(ident) / "cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"])


def frozen(machine, ident: str) -> bool:
    return "frozen 1" in (machine.group(ident) / "cgroup.events").read_text()


def test_the_machine_as_info_shows_it(machine):
    info = machine.get("/info")
    assert info["CgroupVersion"] == "2"
    assert all(info[name] for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit"))
    assert not [text for text in info["Warnings"] or () if "support" in text]


def test_a_container_sees_its_own_group_as_the_root(machine):
    text = machine.shell(
        "cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/mounts; cat /sys/fs/cgroup/memory.max", Memory=64 * MIB
    )
    lines = text.splitlines()
    assert lines[0] == "0::/"
    assert lines[1].split()[2:4][0] == "cgroup2"
    assert "ro" in lines[1].split()[3].split(",")
    assert lines[2] == str(64 * MIB)


def test_out_of_memory(machine):
    ident = machine.run("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1", Memory=32 * MIB, MemorySwap=32 * MIB)
    state = machine.ended(ident)
    assert (state["ExitCode"], state["OOMKilled"]) == (137, True)


def test_a_child_out_of_memory_does_not_end_its_container(machine):
    script = "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?; exec sleep 1000"
    ident = machine.run("sh", "-c", script, Memory=32 * MIB, MemorySwap=32 * MIB)
    wait_until(lambda: machine.cli("boxship", "logs", ident).stdout == b"137\n", "the child was killed")
    state = machine.inspect(ident)["State"]
    assert (state["Running"], state["OOMKilled"]) == (True, True)
    assert machine.stats(ident)["memory_stats"]["failcnt"] > 0


def test_process_limit(machine):
    text = machine.shell("exec 2>&1; for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & echo $i; done; echo all", PidsLimit=5)
    assert "fork" in text
    assert "all" not in text
    ident = machine.run("sleep", "1000", PidsLimit=5)
    assert machine.stats(ident)["pids_stats"] == {"current": 1, "limit": 5}


def test_processor_limit_and_its_change(machine):
    ident = machine.run(*BUSY, NanoCpus=200_000_000)
    wait_until(lambda: machine.stats(ident)["cpu_stats"]["throttling_data"]["throttled_periods"] > 5, "it is throttled")
    share = _share(machine, ident)
    assert 0.05 < share < 0.3
    assert machine.request("POST", f"/containers/{ident}/update", {"NanoCpus": 800_000_000})[0] == 200
    assert (machine.group(ident) / "cpu.max").read_text() == "80000 100000\n"
    assert _share(machine, ident) > 1.5 * share
    machine.request("DELETE", f"/containers/{ident}?force=1")


def _share(machine, ident: str) -> float:
    """How much of one processor a container gets."""
    sample = machine.get(f"/containers/{ident}/stats?stream=0")
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    return used / (now["system_cpu_usage"] - before["system_cpu_usage"]) * now["online_cpus"]


@pytest.mark.parametrize(
    ("host", "file", "text"),
    [
        ({"CpuShares": 512}, "cpu.weight", "59"),
        ({"CpuPeriod": 50_000, "CpuQuota": 25_000}, "cpu.max", "25000 50000"),
        ({"CpusetCpus": "0"}, "cpuset.cpus.effective", "0"),
        ({"Memory": 64 * MIB}, "memory.max", str(64 * MIB)),
        ({"Memory": 64 * MIB, "MemorySwap": 80 * MIB}, "memory.swap.max", str(16 * MIB)),
        ({"Memory": 64 * MIB, "MemorySwap": -1}, "memory.swap.max", "max"),
        ({"MemoryReservation": 16 * MIB}, "memory.low", str(16 * MIB)),
        ({"PidsLimit": 7}, "pids.max", "7"),
        ({"PidsLimit": -1}, "pids.max", "max"),
    ],
)
def test_limits_in_the_kernels_words_at_the_start_and_later(machine, host, file, text):
    at_start, later = machine.run("sleep", "1000", **host), machine.run("sleep", "1000")
    changes = host if "MemorySwap" in host or "Memory" not in host else {**host, "MemorySwap": -1}
    assert machine.request("POST", f"/containers/{later}/update", changes) == (200, {"Warnings": None})
    for ident in (at_start, later):
        assert (machine.group(ident) / file).read_text().strip() == text
        machine.request("DELETE", f"/containers/{ident}?force=1")


def test_what_cgroup_v2_has_not_is_said(machine):
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none", "OomKillDisable": True}}
    status, answer = machine.request("POST", "/containers/create", body)
    assert status == 201
    status, said = machine.request("POST", f"/containers/{answer['Id']}/start")
    assert status == 204, said
    wait_until(lambda: "OomKillDisable discarded" in machine.log() or answer["Warnings"], "somebody is told")


def test_an_update_that_the_kernel_refuses_changes_nothing(machine):
    ident = machine.run("sleep", "1000", Memory=64 * MIB, PidsLimit=9)
    changes = {"Memory": 96 * MIB, "MemorySwap": 128 * MIB, "PidsLimit": 3, "CpuRealtimeRuntime": 1000}
    status, said = machine.request("POST", f"/containers/{ident}/update", changes)
    assert status == 500, said
    assert "Cannot update container" in said["message"]
    assert (machine.group(ident) / "memory.max").read_text() == f"{64 * MIB}\n"
    assert (machine.group(ident) / "pids.max").read_text() == "9\n"
    assert machine.inspect(ident)["HostConfig"]["Memory"] == 64 * MIB


spare = pytest.mark.skipif(not (SPARE.exists() and stat.S_ISBLK(SPARE.stat().st_mode)), reason="there is no disk to spare")


def _number() -> tuple[int, int]:
    return os.major(SPARE.stat().st_rdev), os.minor(SPARE.stat().st_rdev)


@spare
def test_devices(machine):
    major, minor = _number()
    read = f"mknod /tmp/disk b {major} {minor} && dd if=/tmp/disk of=/dev/null bs=512 count=1 2>&1; echo $?; head -c 3 /dev/zero | wc -c"
    refused = machine.shell(read)
    assert "Operation not permitted" in refused
    assert refused.splitlines()[-2:] == ["1", "3"]
    rule = {"DeviceCgroupRules": [f"b {major}:{minor} r"]}
    assert machine.shell(read, **rule).splitlines()[-2:] == ["0", "3"]
    write = f"mknod /tmp/disk b {major} {minor}; dd if=/dev/zero of=/tmp/disk bs=512 count=1 2>&1; echo $?"
    assert machine.shell(write, **rule).splitlines()[-1] == "1"
    assert machine.shell(write, Privileged=True).splitlines()[-1] == "0"


@spare
def test_block_io_is_counted_and_limited(machine):
    device = [{"PathOnHost": str(SPARE), "PathInContainer": str(SPARE), "CgroupPermissions": "rwm"}]
    limits = {"Devices": device, "BlkioDeviceReadBps": [{"Path": str(SPARE), "Rate": MIB}]}
    script = f"s=$(date +%s); dd if={SPARE} of=/dev/null bs=64k count=64 iflag=direct; e=$(date +%s); echo $((e - s)); exec sleep 1000"
    ident = machine.run("sh", "-c", script, **limits)
    number = "{}:{}".format(*_number())
    assert f"{number} rbps={MIB}" in (machine.group(ident) / "io.max").read_text()
    seconds = wait_until(lambda: machine.cli("boxship", "logs", ident).stdout, "the copy is done", 30).decode()
    assert int(seconds) >= 2
    entries = machine.stats(ident)["blkio_stats"]["io_service_bytes_recursive"]
    read = {f"{one['major']}:{one['minor']}": one["value"] for one in entries if one["op"] == "read"}
    assert read[number] >= 4 * MIB
    again = {"BlkioDeviceReadBps": [{"Path": str(SPARE), "Rate": 100 * MIB}]}
    assert machine.request("POST", f"/containers/{ident}/update", again)[0] == 200
    assert f"{number} rbps={100 * MIB}" in (machine.group(ident) / "io.max").read_text()


def test_pause_and_the_daemons_death(machine):
    ident = machine.run(*BUSY)
    assert machine.request("POST", f"/containers/{ident}/pause")[0] == 204
    assert frozen(machine, ident)
    before = usage(machine, ident)
    machine.kill()
    machine.start()
    assert machine.inspect(ident)["State"]["Status"] == "paused"
    assert usage(machine, ident) == before
    assert machine.request("POST", f"/containers/{ident}/unpause")[0] == 204
    wait_until(lambda: usage(machine, ident) > before, "it works again")
    machine.request("POST", f"/containers/{ident}/pause")
    assert machine.request("POST", f"/containers/{ident}/kill")[0] == 204
    assert machine.inspect(ident)["State"]["ExitCode"] == 137


def test_kill_reaches_every_process(machine):
    script = "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM; sleep 1000 & wait' & done; exec sleep 1000"
    ident = machine.run("sh", "-c", script)
    group = machine.group(ident)
    wait_until(lambda: len((group / "cgroup.procs").read_text().split()) == 7, "all are there")
    pids = (group / "cgroup.procs").read_text().split()
    machine.request("POST", f"/containers/{ident}/kill")
    wait_until(lambda: not group.exists(), "the group is gone")
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_statistics_in_dockers_words(machine):
    ident = machine.run("sleep", "1000", Memory=64 * MIB)
    sample = machine.stats(ident)
    assert sample["pids_stats"] == {"current": 1, "limit": 18446744073709551615}
    assert sample["memory_stats"]["limit"] == 64 * MIB
    assert {"anon", "file", "inactive_file", "pgfault", "workingset_refault"} <= set(sample["memory_stats"]["stats"])
    assert "percpu_usage" not in sample["cpu_stats"]["cpu_usage"]
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert sample["blkio_stats"]["io_serviced_recursive"] is None
    titles = machine.get(f"/containers/{ident}/top")["Titles"]
    assert "PID" in titles
