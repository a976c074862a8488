"""Containers of other OCI runtimes' making: looked after like any other."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from support.daemon import wait_until

RUNTIMES = [
    pytest.param(name, marks=pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name}")) for name in ("runc", "crun")
]
pytestmark = pytest.mark.parametrize("runtime", RUNTIMES)


def leftovers(isolated, ident: str) -> list[str]:
    return os.listdir(isolated.daemon.data_root / "containers" / ident / "runtime")


def test_the_program_has_what_was_asked_for(isolated, runtime):
    script = (
        "id -u; id -G; pwd; hostname; cat /proc/sys/kernel/domainname; echo $A; ulimit -n; cat /proc/self/oom_score_adj; "
        "cat /proc/sys/net/ipv4/ip_forward; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f 2; "
        "touch /file 2> /dev/null || echo read-only; df -k /t | tail -1 | tr -s ' ' | cut -d ' ' -f 2; wc -c < /proc/keys; "
        "echo error >&2; exit 7"
    )
    config = {"User": "box", "WorkingDir": "/tmp", "Hostname": "me", "Domainname": "example.org", "Env": ["A=b"]}
    lines = isolated.run(
        script,
        config,
        code=7,
        Runtime=runtime,
        GroupAdd=["77"],
        Ulimits=[{"Name": "nofile", "Soft": 64, "Hard": 128}],
        OomScoreAdj=300,
        Sysctls={"net.ipv4.ip_forward": "1"},
        SecurityOpt=["no-new-privileges"],
        ReadonlyRootfs=True,
        Tmpfs={"/t": "size=1m"},
    )
    assert lines[0] == "1000"
    assert set(lines[1].split()) == {"1000", "2000", "77"}
    assert lines[2:] == ["/tmp", "me", "example.org", "b", "64", "300", "1", "1", "2", "read-only", "1024", "0", "error"]


def test_limits_and_devices(isolated, runtime):
    unified = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    files = "memory.max pids.max" if unified else "memory/memory.limit_in_bytes pids/pids.max"
    device = {"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/log0", "CgroupPermissions": "r"}
    lines = isolated.run(
        f"cd /sys/fs/cgroup; cat {files}; (exec 3< /dev/log0) && echo read; (exec 3> /dev/log0) 2> /dev/null || echo refused",
        Runtime=runtime,
        Memory=64 << 20,
        PidsLimit=30,
        Devices=[device],
        CapAdd=["SYSLOG"],
    )
    assert lines == [str(64 << 20), "30", "read", "refused"]


def test_a_start_that_fails_says_why_and_leaves_nothing(isolated, runtime):
    ident = isolated.create("true", {"Cmd": ["/no/such/program"]}, Runtime=runtime)
    status, answer = isolated.daemon.request("POST", f"/containers/{ident}/start")
    assert status >= 400
    assert "no such file or directory" in answer["message"]
    assert isolated.daemon.inspect(ident)["State"]["ExitCode"] == 127
    assert "oci" not in leftovers(isolated, ident)


def test_a_runtime_that_is_not_there(isolated, runtime):
    body = {"Image": "busybox", "HostConfig": {"Runtime": runtime, "Init": True}}
    assert isolated.daemon.request("POST", "/containers/create", body)[1]["message"].startswith("--init is not available")


def test_a_life(isolated, runtime):
    """Parked, paused, joined, signalled, ended by process 1's own will; nothing of the bundle stays."""
    script = "trap 'exit 9' TERM; echo ready > /dev/shm/f; echo out; while :; do sleep 0.01; done"
    ident = isolated.start(script, Runtime=runtime, IpcMode="shareable", ShmSize=1 << 20)
    wait_until(lambda: isolated.output(ident) == ["out"], "it has said so")
    found = isolated.daemon.inspect(ident)
    assert found["HostConfig"]["Runtime"] == runtime
    joined = isolated.run(
        "cat /dev/shm/f; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2; readlink /proc/self/ns/net",
        Runtime=runtime,
        IpcMode=f"container:{ident}",
        NetworkMode=f"container:{ident}",
        PidMode=f"container:{ident}",
    )
    pid = found["State"]["Pid"]
    assert joined == ["ready", "1024", os.readlink(f"/proc/{pid}/ns/net")]
    assert isolated.daemon.request("POST", f"/containers/{ident}/pause")[0] == 204
    assert isolated.daemon.request("POST", f"/containers/{ident}/unpause")[0] == 204
    shim = isolated.daemon.shim_pid(ident)
    wait_until(lambda: isolated.daemon.children(shim) == [pid], "the worker has parked")
    assert isolated.daemon.request("POST", f"/containers/{ident}/stop")[0] == 204
    assert isolated.daemon.inspect(ident)["State"]["ExitCode"] == 9
    assert "oci" not in leftovers(isolated, ident)
    assert isolated.daemon.request("POST", f"/containers/{ident}/start")[0] == 204
    assert isolated.daemon.request("POST", f"/containers/{ident}/kill")[0] == 204
    assert isolated.daemon.inspect(ident)["State"]["ExitCode"] == 137


@pytest.mark.parametrize("whose", ["private", "host"])
def test_a_shim_that_is_killed_takes_its_container_along(isolated, runtime, whose):
    ident = isolated.start("sleep 1000", Runtime=runtime, PidMode="host" if whose == "host" else "")
    pid = isolated.daemon.inspect(ident)["State"]["Pid"]
    os.kill(isolated.daemon.shim_pid(ident), signal.SIGKILL)
    state = isolated.daemon.wait_state(ident, "exited")["State"]
    assert state["ExitCode"] == 255
    wait_until(lambda: ended(pid), "its process is gone")
    assert "oci" not in leftovers(isolated, ident)


def ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
