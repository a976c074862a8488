"""Whose namespaces a container has: its own, the host's, or another container's."""

from __future__ import annotations

import os
import subprocess

import pytest

SHOW = "cd /proc/self/ns; for n in pid ipc uts net cgroup mnt; do echo $n $(readlink $n); done"


def namespaces(lines: list[str]) -> dict[str, str]:
    return dict(line.split() for line in lines)


def hosts(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def test_its_own_by_default(isolated):
    found = namespaces(isolated.run(SHOW))
    assert all(found[kind] != hosts(kind) for kind in found)


@pytest.mark.parametrize(
    ("field", "kind"),
    [("PidMode", "pid"), ("IpcMode", "ipc"), ("UTSMode", "uts"), ("NetworkMode", "net"), ("CgroupnsMode", "cgroup")],
)
def test_the_hosts(isolated, field, kind):
    found = namespaces(isolated.run(SHOW, **{field: "host"}))
    assert [name for name in found if found[name] == hosts(name)] == [kind]


@pytest.mark.parametrize(("field", "kind"), [("PidMode", "pid"), ("IpcMode", "ipc"), ("NetworkMode", "net")])
def test_another_containers(isolated, field, kind):
    donor = isolated.start(f"{SHOW}; sleep 1000", IpcMode="shareable")
    pid = isolated.daemon.inspect(donor)["State"]["Pid"]
    theirs = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in ("pid", "ipc", "uts", "net")}
    found = namespaces(isolated.run(SHOW, **{field: f"container:{donor}"}))
    assert [name for name in theirs if found[name] == theirs[name]] == [kind]


def test_joining_what_does_not_run_or_does_not_share(isolated):
    donor = isolated.create("true")
    assert "cannot join PID namespace of a non running container" in isolated.refused(PidMode=f"container:{donor}")
    private = isolated.start("sleep 1000")
    assert "non-shareable IPC" in isolated.refused(IpcMode=f"container:{private}")


@pytest.mark.parametrize("mode", ["shareable", "private"])
def test_shared_memory_has_its_size(isolated, mode):
    lines = isolated.run("df -k /dev/shm | tail -1; dd if=/dev/zero of=/dev/shm/f bs=1k 2> /dev/null; stat -c %s /dev/shm/f",
                         code=None, IpcMode=mode, ShmSize=2 << 20)  # fmt: skip
    assert lines[0].split()[:2] == ["shm", "2048"]
    assert lines[1] == str(2 << 20)


def test_shared_memory_is_one_file_system_of_both_and_of_nobody_else(isolated):
    """The tmpfs is the donor's, with its size; it outlives the donor in whoever joined; the host never has it mounted."""
    donor = isolated.start("echo donor > /dev/shm/f; sleep 1000", IpcMode="shareable", ShmSize=1 << 20)
    joined = isolated.start(
        "until [ -e /dev/shm/f ]; do sleep 0.01; done; cat /dev/shm/f; echo joined > /dev/shm/g; "
        "until [ -e /dev/shm/stop ]; do sleep 0.01; done; df -k /dev/shm | tail -1; cat /dev/shm/f",
        IpcMode=f"container:{donor}",
    )
    donor_pid, pid = (isolated.daemon.inspect(ident)["State"]["Pid"] for ident in (donor, joined))
    isolated.daemon.request("POST", f"/containers/{donor}/kill")
    with open(f"/proc/{pid}/root/dev/shm/stop", "w") as file:
        file.write("now")
    isolated.daemon.request("POST", f"/containers/{joined}/wait")
    lines = isolated.output(joined)
    assert (lines[0], lines[1].split()[1], lines[2]) == ("donor", "1024", "donor")
    assert donor_pid != pid
    mounted = subprocess.check_output(["cat", "/proc/self/mountinfo"], text=True)
    assert donor not in mounted
    assert joined not in mounted


def test_no_shared_memory(isolated):
    lines = isolated.run("ls -d /dev/shm 2> /dev/null; grep -c ' /dev/shm ' /proc/self/mounts", code=None, IpcMode="none")
    assert lines[-1] == "0"
    assert namespaces(isolated.run(SHOW, IpcMode="none"))["ipc"] != hosts("ipc")


def test_groups_by_name_and_number(isolated):
    assert isolated.run("id -G", GroupAdd=["extra", "77"]) == ["0 77 2000"]
    assert set(isolated.run("id -G", {"User": "box"}, GroupAdd=["daemon"])[0].split()) == {"1000", "2000", "1"}
    assert "unable to find group nosuch" in isolated.refused(GroupAdd=["nosuch"])


def test_names(isolated):
    script = "hostname; cat /proc/sys/kernel/domainname"
    assert isolated.run(script, {"Hostname": "me", "Domainname": "example.org"}) == ["me", "example.org"]
    assert isolated.refused(config={"Hostname": "me"}, UTSMode="host") == "conflicting options: hostname and the UTS mode"


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"PidMode": "nonsense"}, "invalid PID mode: nonsense"),
        ({"IpcMode": "nonsense"}, "invalid IPC mode: nonsense"),
        ({"UTSMode": "container:x"}, "invalid UTS mode: container:x"),
        ({"UsernsMode": "private"}, "invalid userns mode: private"),
        ({"CgroupnsMode": "nonsense"}, "invalid cgroup namespace mode: nonsense"),
        ({"PidMode": "container:nosuch"}, "No such container: nosuch"),
        ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_modes_that_cannot_be(isolated, host, message):
    assert isolated.refused(**host) == message
