"""Containers that may trace processes, or forbid some system calls: what a joining process shows of the host, and what it executes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon

pytestmark = needs_root

# In the container, with the host's interpreter: looks at every process that isn't known, over and over, until there is /tmp/stop.
WATCH = """
import os, stat
proc = 3
roots = (os.stat('.', dir_fd=4), os.stat('1/root', dir_fd=proc))
homes = {(root.st_dev, root.st_ino) for root in roots}
seen, found = set(), set()
print('ready', flush=True)
while True:
    try:
        os.stat('tmp/stop', dir_fd=4)
        break
    except FileNotFoundError:
        pass
    for entry in os.listdir(proc):
        if not entry.isdigit() or int(entry) in (1, os.getpid()):
            continue
        for what in ('root', 'cwd'):
            try:
                about = os.stat(f'{entry}/{what}', dir_fd=proc)
            except OSError:
                continue
            seen.add(int(entry))
            if (about.st_dev, about.st_ino) not in homes:
                found.add((what, about.st_dev, about.st_ino))
        try:
            fds = os.open(f'{entry}/fd', os.O_RDONLY, dir_fd=proc)
        except OSError:
            continue
        try:
            for number in os.listdir(fds):
                try:
                    link, about = os.readlink(number, dir_fd=fds), os.stat(number, dir_fd=fds)
                except OSError:
                    continue
                # /tmp/stop is the container's own, which the one that makes it has open for a moment.
                own = link in ('/dev/null', '/tmp/stop') or link.startswith('/dev/pts/')
                if not stat.S_ISFIFO(about.st_mode) and not own:
                    found.add(('fd', link))
        except OSError:
            pass
        os.close(fds)
print(len(seen), sorted(found), flush=True)
"""


def run(daemon: Daemon, name: str, *flags: str) -> str:
    daemon.cli("boxship", "run", "-d", "--name", name, "--network", "none", *flags, "busybox", "sleep", "100000")
    return name


def watcher(daemon: Daemon, box: str):
    script = f'exec 3</proc 4</; exec chroot /host {sys.executable} -I -S -c "$0"'
    process = daemon.popen("boxship", "exec", box, "sh", "-c", script, WATCH, stdout=-1)
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("terminal", [False, True])
def test_a_tracer_finds_nothing_of_the_host(daemon, terminal):
    """With CAP_SYS_PTRACE, which no undumpable process is safe from."""
    box = run(daemon, f"traces-{terminal}".lower(), "--cap-add", "SYS_PTRACE", "-v", "/:/host:ro")
    process = watcher(daemon, box)
    for _ in range(200):
        status, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["true"], "Tty": terminal})
        assert status == 201
        assert daemon.request("POST", f"/exec/{body['Id']}/start", {"Detach": True, "Tty": terminal})[0] == 200
    daemon.cli("boxship", "exec", box, "touch", "/tmp/stop")
    said, _ = process.communicate(timeout=30)
    seen, _, found = said.decode().strip().partition(" ")
    daemon.cli("boxship", "rm", "-f", box)
    assert found == "[]"
    assert int(seen) > 100


def test_a_tracer_that_shares_the_containers_processes(daemon):
    """Whose capabilities the container that is joined knows nothing of."""
    box = run(daemon, "is-traced")
    tracer = run(daemon, "traces-another", "--cap-add", "SYS_PTRACE", "--pid", f"container:{box}", "-v", "/:/host:ro")
    process = watcher(daemon, tracer)
    for _ in range(100):
        assert daemon.cli("boxship", "exec", box, "echo", "here").stdout == b"here\n"
    daemon.cli("boxship", "exec", tracer, "touch", "/tmp/stop")
    seen, _, found = process.communicate(timeout=30)[0].decode().strip().partition(" ")
    daemon.cli("boxship", "rm", "-f", tracer, box)
    assert found == "[]"
    assert int(seen) > 50


def test_no_container_is_made_before_a_tracers_eyes(daemon):
    """A container's first process has the host's root for a while, and no pid namespace but one it can only be born in."""
    tracer = run(daemon, "traces-what-joins", "--cap-add", "SYS_PTRACE")
    joins = ("boxship", "run", "--rm", "--pid", f"container:{tracer}", "--network", "none", "busybox", "true")
    assert b"CAP_SYS_PTRACE" in daemon.cli(*joins, code=125).stderr
    daemon.cli("boxship", "rm", "-f", tracer)


@pytest.fixture
def policy(tmp_path):
    def write(*calls: str, args: list[dict[str, object]] | None = None) -> str:
        refused = {"names": list(calls), "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": args or []}
        path = tmp_path / "policy.json"
        path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refused]}))
        return f"seccomp={path}"

    return write


@pytest.mark.parametrize("call", ["clone", "setsid", "ioctl"])
def test_a_policy_that_forbids_what_getting_in_takes(daemon, policy, call):
    box = run(daemon, f"forbids-{call}", "--security-opt", policy(call))
    command = ["grep", "Seccomp:", "/proc/self/status"]
    assert daemon.cli("boxship", "exec", box, *command).stdout.split() == [b"Seccomp:", b"2"]
    assert b"2" in daemon.cli("boxship", "exec", "-t", box, *command).stdout
    daemon.cli("boxship", "rm", "-f", box)


def test_a_policy_that_forbids_it_where_processes_are_traced(daemon, policy):
    box = run(daemon, "forbids-and-traces", "--security-opt", policy("clone"), "--cap-add", "SYS_PTRACE")
    result = daemon.cli("boxship", "exec", box, "true", code=126)
    assert b"the container's seccomp policy" in result.stdout + result.stderr
    daemon.cli("boxship", "rm", "-f", box)


CLONE_VM = 0x100
NOTHING_SHARED = [{"index": 0, "value": CLONE_VM, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]


def test_memory_is_shared_with_no_process_that_may_be_traced(daemon, policy):
    """A policy that allows only children that share their maker's memory: where somebody may trace, there is none of those."""
    option = policy("clone", args=NOTHING_SHARED)
    box = run(daemon, "is-to-be-traced", "--security-opt", option)
    assert daemon.cli("boxship", "exec", box, "echo", "here").stdout == b"here\n"
    privileged = daemon.popen("boxship", "exec", "--privileged", box, "sh", "-c", "echo ready; exec sleep 100000", stdout=-1)
    assert privileged.stdout.readline() == b"ready\n"
    result = daemon.cli("boxship", "exec", box, "true", code=126)
    assert b"the container's seccomp policy" in result.stdout + result.stderr
    daemon.cli("boxship", "rm", "-f", box)
    privileged.wait(30)
    privileged.stdout.close()

    box = run(daemon, "is-joined", "--security-opt", option)
    assert daemon.cli("boxship", "exec", box, "echo", "here").stdout == b"here\n"
    tracer = run(daemon, "joins-and-traces", "--cap-add", "SYS_PTRACE", "--pid", f"container:{box}")
    result = daemon.cli("boxship", "exec", box, "true", code=126)
    assert b"the container's seccomp policy" in result.stdout + result.stderr
    daemon.cli("boxship", "rm", "-f", tracer, box)


def test_what_is_put_in_the_place_of_proc_is_not_written_to(daemon):
    box = run(daemon, "fakes-proc", "--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined", "--oom-score-adj", "123")
    trap = (
        "echo untouched > /victim; mount -t tmpfs none /proc; mkdir /proc/self /proc/1; "
        "ln -s /victim /proc/self/oom_score_adj; ln -s self /proc/thread-self"
    )
    daemon.cli("boxship", "exec", box, "sh", "-c", trap)
    for flags in ((), ("-t",), ("-u", "1000")):
        assert daemon.cli("boxship", "exec", *flags, box, "cat", "/victim").stdout.strip() == b"untouched"
    status, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["sleep", "1000"]})
    assert status == 201
    assert daemon.request("POST", f"/exec/{body['Id']}/start", {"Detach": True})[0] == 200
    pid = daemon.get(f"/exec/{body['Id']}/json")["Pid"]
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "123\n"
    daemon.cli("boxship", "rm", "-f", box)


def test_a_container_without_proc(daemon):
    box = run(daemon, "has-no-proc", "--privileged", "--oom-score-adj", "200")
    daemon.cli("boxship", "exec", box, "umount", "-l", "/proc")
    assert daemon.cli("boxship", "exec", box, "ls", "/proc").stdout == b""
    assert daemon.cli("boxship", "exec", "-t", box, "echo", "here").stdout == b"here\r\n"
    daemon.cli("boxship", "rm", "-f", box)
