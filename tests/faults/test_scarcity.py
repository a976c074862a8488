"""Disks that fill up or give way slowly, and processes of ours without descriptors: the error is named, and it is got over."""

from __future__ import annotations

import os
import re
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.daemons import on_small_disk

pytestmark = needs_root

MIB = 1 << 20


def create(daemon: Daemon, *command: str, **host: object) -> tuple[int, dict]:
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
    return daemon.request("POST", "/containers/create", body)  # type: ignore[return-value]


def created(daemon: Daemon, *command: str, **host: object) -> str:
    status, body = create(daemon, *command, **host)
    assert status == 201, body
    return body["Id"]


def start(daemon: Daemon, ident: str) -> tuple[int, object]:
    return daemon.request("POST", f"/containers/{ident}/start")


def supervisors_log(daemon: Daemon) -> str:
    return (daemon.exec_root / "boxrun.log").read_text()


# A container that writes its log faster than the disk takes it.


@contextmanager
def mounted(path: Path, size: int) -> Iterator[None]:
    """A disk of ``size`` bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def shims_memory(daemon: Daemon, ident: str) -> int:
    """What a container's shim has to itself, in bytes; of worker and keeper the one that has more."""
    keeper = daemon.shim_pid(ident)
    first = daemon.inspect(ident)["State"]["Pid"]
    found = [0]
    for pid in (keeper, *daemon.children(keeper)):
        with suppress(OSError):
            if pid != first:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found.append(sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.M)) << 10)
    return max(found)


def test_a_log_that_the_disk_takes_slower_than_it_is_written(daemon: Daemon) -> None:
    """The disk is full again and again, and each time somebody makes a little room."""
    count = 500_000
    log = {"Type": "local", "Config": {"compress": "false"}}
    ident = created(daemon, "sh", "-c", f"seq 1 {count}; echo over >&2", LogConfig=log)
    path = daemon.data_root / "containers" / ident / "local-logs"
    with mounted(path, MIB):
        assert start(daemon, ident)[0] == 204

        def full() -> bool:
            return os.statvfs(path).f_bavail == 0 or not daemon.inspect(ident)["State"]["Running"]

        for size in range(2 * MIB, 20 * MIB, 2 * MIB):
            wait_until(full, "the disk is full")
            if not daemon.inspect(ident)["State"]["Running"]:
                break
            # Whoever took more than the disk does would have it all by now.
            assert shims_memory(daemon, ident) < 16 * MIB
            subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)
        daemon.wait_state(ident, "exited")
        logged = daemon.cli("docker", "logs", ident)
        assert logged.stdout == b"".join(b"%d\n" % number for number in range(1, count + 1))
        assert logged.stderr == b"over\n"
        assert daemon.inspect(ident)["State"].get("LogDropped", 0) == 0
    said = [line for line in supervisors_log(daemon).splitlines() if ident in line]
    assert any("No space left on device: the container waits for it" in line for line in said)
    assert said[-1].endswith("goes on")
    daemon.request("DELETE", f"/containers/{ident}")


# A full disk.


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose disk is a small tmpfs."""
    with on_small_disk(16) as daemon:
        yield daemon


def fill(daemon: Daemon) -> Path:
    """Take what room there is; the file that has it."""
    path = daemon.data_root / "filler"
    with open(path, "ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return path


def test_on_a_full_disk_nothing_is_created_and_everything_can_be_ended(small: Daemon) -> None:
    waiting = created(small, "sh", "-c", "while [ ! -e /end ]; do sleep 0.01; done; exit 7")
    idle, running, removed = (created(small, "sh", "-c", "echo said; exec sleep 1000") for _ in range(3))
    for ident in (waiting, running, removed):
        assert start(small, ident)[0] == 204
    Path(f"/proc/{small.inspect(waiting)['State']['Pid']}/root/end").touch()
    assert small.wait_state(waiting, "exited")["State"]["ExitCode"] == 7
    filler = fill(small)
    before = sorted(os.listdir(small.data_root / "containers"))
    for _ in range(3):
        status, body = create(small, "true")
        assert status == 500
        assert re.fullmatch(r"create container [0-9a-f]{64}: No space left on device", body["message"])
    assert sorted(os.listdir(small.data_root / "containers")) == before
    # What ends now is told truly, and by the next daemon too.
    assert start(small, idle)[0] == 204
    assert small.request("POST", f"/containers/{idle}/stop?t=0")[0] == 204
    small.kill()
    small.start()
    assert {ident: small.inspect(ident)["State"]["ExitCode"] for ident in (waiting, idle)} == {waiting: 7, idle: 137}
    assert f"exit record in {small.data_root}/containers/{idle}" in supervisors_log(small)
    assert small.inspect(running)["State"]["Running"]
    # What makes room can be done without any.
    assert small.request("DELETE", f"/containers/{removed}?force=1")[0] == 204
    small.kill()
    small.start()
    assert {each["Id"] for each in small.get("/containers/json?all=1")} == {waiting, idle, running}
    filler.unlink()
    ident = created(small, "true")
    assert start(small, ident)[0] == 204
    assert small.wait_state(ident, "exited")["State"]["ExitCode"] == 0


# No descriptors.


@contextmanager
def few_descriptors(pid: int, more: int) -> Iterator[None]:
    """A process may have only so many more than it has."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(entry) for entry in os.listdir(f"/proc/{pid}/fd")}
    free = [number for number in range(len(taken) + more + 1) if number not in taken]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[more], before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("more", [0, 3])
def test_a_supervisor_without_descriptors_refuses_and_recovers(own_daemon: Daemon, more: int) -> None:
    kept = created(own_daemon, "sleep", "1000")
    assert start(own_daemon, kept)[0] == 204
    idents = [created(own_daemon, "sleep", "1000") for _ in range(6)]
    supervisor = own_daemon.supervisor_pid()
    before = len(os.listdir(f"/proc/{supervisor}/fd"))
    with few_descriptors(supervisor, more):
        answers = [start(own_daemon, ident) for ident in idents]
        status, exec_ = own_daemon.request("POST", f"/containers/{kept}/exec", {"Cmd": ["true"]})
        assert status == 201, exec_
        answers.append(own_daemon.request("POST", f"/exec/{exec_['Id']}/start", {"Detach": True}))
    refused = [body["message"] for status, body in answers if status not in (200, 204)]
    assert refused
    assert all("too many open files" in message.lower() for message in refused), refused
    assert own_daemon.supervisor_pid() == supervisor
    # Those that were refused don't run, and can be started now.
    for ident, (status, _) in zip(idents, answers, strict=False):
        assert own_daemon.inspect(ident)["State"]["Running"] == (status == 204)
        assert start(own_daemon, ident)[0] in (204, 304)
        pid = own_daemon.inspect(ident)["State"]["Pid"]
        assert own_daemon.request("DELETE", f"/containers/{ident}?force=1")[0] == 204
        assert not Path(f"/proc/{pid}").exists()
    assert own_daemon.inspect(kept)["State"]["Running"]
    # The directories of the containers' cgroup parents stay open.
    wait_until(lambda: len(os.listdir(f"/proc/{supervisor}/fd")) <= before + 2, "descriptors are given back")
    own_daemon.request("DELETE", f"/containers/{kept}?force=1")


@pytest.mark.parametrize("more", [0, 8, 20])
def test_a_shim_without_descriptors_fails_its_start_by_name(own_daemon: Daemon, more: int) -> None:
    """They inherit the limit of the zygote that forks them. One that can't even receive its order is told of as dead."""
    zygote = own_daemon.zygote_pid()
    wait_until(lambda: len(own_daemon.children(zygote)) >= 2, "there are spare shims")
    idents = [created(own_daemon, "sleep", "1000") for _ in range(6)]
    with few_descriptors(zygote, more):
        answers = [start(own_daemon, ident) for ident in idents]
    for ident, (status, body) in zip(idents, answers, strict=True):
        assert status == 204 or re.search("too many open files|shim died", body["message"], re.I), body
        assert own_daemon.inspect(ident)["State"]["Running"] == (status == 204)
    # The last ones were forked under the limit; in the end all is as it was.
    wait_until(lambda: all(start(own_daemon, ident)[0] in (204, 304) for ident in idents), "all can be started")
    for ident in idents:
        assert own_daemon.request("DELETE", f"/containers/{ident}?force=1")[0] == 204
