"""Probes of real containers: what they run as, what is kept of them, when they end, and what nobody in the container can do."""

from __future__ import annotations

import ast
import ctypes
import json
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
from boxrun.linux.namespaces import CLONE_NEWNS, CLONE_NEWPID, setns
from boxrun.prober.protocol import Ask, decode_message
from boxrun.shim.wire import encode, send_inline
from msgspec import msgpack
from support.daemon import wait_until
from support.health import MS, becomes, health, prober, probers, remove, run, start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
def box(daemon):
    """``run``, with what it has run removed in the end."""
    made = []

    def launch(*test, **fields):
        made.append(run(daemon, *test, **fields))
        return made[-1]

    yield launch
    remove(daemon, *made)


def last(daemon, ident):
    """The latest result, once there is one."""
    return wait_until(lambda: health(daemon, ident)["Log"], "a probe has run")[-1]


def test_a_container_without_a_check_has_no_health(daemon):
    ident = run(daemon, "NONE")
    assert "Health" not in daemon.inspect(ident)["State"]
    assert probers(ident) == []
    remove(daemon, ident)


def test_a_probe_is_one_of_the_containers_programs(daemon, box):
    script = (
        "id -u; id -g; pwd; echo $HOME $X; grep -E '^(Cap|NoNew|Seccomp:|Sig[IB])' /proc/self/status; cat /proc/self/cgroup"
    )
    main = f"{{ {script}; }} > /tmp/main; exec sleep 1000"
    ident = box(
        "CMD-SHELL",
        f"{{ {script}; }} > /tmp/probe; diff /tmp/main /tmp/probe",
        command=("sh", "-c", main),
        User="box",
        WorkingDir="/tmp",
        Env=["X=y"],
    )
    assert becomes(daemon, ident, "healthy")["Log"][-1]["Output"] == ""


@pytest.mark.parametrize(
    "host",
    [
        {"Privileged": True},
        {"CapAdd": ["SYS_PTRACE"]},
        {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]},
        {"Ulimits": [{"Name": "cpu", "Soft": 2, "Hard": 2}]},
        {"SecurityOpt": ["seccomp=unconfined"]},
        {"PidMode": "host"},
        {"ReadonlyRootfs": True},
    ],
    ids=["privileged", "ptrace", "few rights", "rlimits", "unconfined", "pid host", "read-only"],
)
def test_a_probe_has_the_containers_rights_and_no_more(daemon, box, host):
    script = "grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; ulimit -t; cut -d: -f3 /proc/self/cgroup"
    ident = box("CMD-SHELL", script, command=("sh", "-c", f"{script}; exec sleep 1000"), HostConfig=host)
    output = becomes(daemon, ident, "healthy")["Log"][-1]["Output"]
    assert output == daemon.cli("docker", "logs", ident).stdout.decode()


def test_a_filter_that_refuses_what_a_prober_needs_is_the_probes_alone(daemon, box):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["poll", "pidfd_open", "sendmsg", "pipe2"], "action": "SCMP_ACT_KILL_PROCESS"}],
    }
    ident = box(
        "CMD",
        "grep",
        "Seccomp:",
        "/proc/self/status",
        User="1000",
        HostConfig={"SecurityOpt": [f"seccomp={json.dumps(profile)}"]},
    )
    assert becomes(daemon, ident, "healthy")["Log"][-1]["Output"] == "Seccomp:\t2\n"


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_filter_that_refuses_further_processes_is_kept_to(daemon, box, action):
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone", "clone3", "fork", "vfork"], "action": action}],
    }
    check = ("CMD", "grep", "Seccomp:", "/proc/self/status")
    host = {"SecurityOpt": [f"seccomp={json.dumps(profile)}"]}
    for user in ("0", "1000"):
        ident = box(*check, User=user, HostConfig=host)
        assert becomes(daemon, ident, "healthy")["Log"][-1]["Output"] == "Seccomp:\t2\n"
    # What may look into a process that has yet to load the filter is shown none.
    ident = box(*check, HostConfig={**host, "CapAdd": ["SYS_PTRACE"]}, retries=1)
    result = becomes(daemon, ident, "unhealthy")["Log"][0]
    assert result["ExitCode"] == -1
    assert result["Output"].startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert re.search(r"clone: operation not permitted|ended with signal 31", result["Output"]), result


def test_output_is_cut_at_4096_bytes_however_much_there_is(daemon, box):
    ident = box("CMD-SHELL", "head -c 300000 /dev/zero | tr '\\0' x; exit 3")
    result = last(daemon, ident)
    assert (result["ExitCode"], result["Output"]) == (3, "x" * 4096 + "...")


def test_output_that_is_no_text_is_shown_as_go_shows_it(daemon, box):
    assert last(daemon, box("CMD", "printf", "a\\377b"))["Output"] == "a\ufffdb"


def test_a_probe_that_takes_too_long_is_killed_with_what_it_has_started(daemon, box):
    ident = box("CMD-SHELL", "echo begun; sleep 998 | sleep 997", timeout=100, retries=2)
    assert becomes(daemon, ident, "unhealthy")["Log"][0]["Output"] == "Health check exceeded timeout (100ms): begun\n"
    assert health(daemon, ident)["Log"][0]["ExitCode"] == -1
    wait_until(lambda: health(daemon, ident)["FailingStreak"] >= 5, "more of them have been killed")
    top = daemon.cli("docker", "top", ident, "-o", "pid,args").stdout.decode()
    assert sum(line.endswith(" sleep 998") and "echo" not in line for line in top.splitlines()) <= 1, top


def test_a_program_that_is_not_there_is_a_failure_with_dockers_words(daemon, box):
    ident = box("CMD", "nope", "really", retries=1)
    result = becomes(daemon, ident, "unhealthy")["Log"][0]
    assert result["ExitCode"] == -1
    assert result["Output"] == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        'exec: "nope": executable file not found in $PATH: unknown'
    )


def test_failures_in_the_start_period_do_not_count(daemon, box):
    ident = box("CMD", "false", retries=1, start_period=600_000, start_interval=20)
    wait_until(lambda: len(health(daemon, ident)["Log"]) == 5, "five probes have run")
    assert (health(daemon, ident)["Status"], health(daemon, ident)["FailingStreak"]) == ("starting", 0)


def test_what_a_probe_leaves_behind_does_not_hold_it_up(daemon, box):
    ident = box("CMD-SHELL", "sleep 996 & echo done", timeout=1000)
    assert becomes(daemon, ident, "healthy")["Log"][0]["Output"] == "done\n"


def test_the_check_of_the_image_counts_and_its_shell(daemon):
    archive = daemon.cli("docker", "create", "--network", "none", "busybox", "sleep", "1000").stdout.decode().strip()
    exported = daemon.cli("docker", "export", archive).stdout
    change = "HEALTHCHECK --interval=50ms --retries=2 CMD echo image $0"
    daemon.cli("docker", "import", "--change", change, "-", "checked", stdin=exported)
    remove(daemon, archive)
    status, body = daemon.request(
        "POST",
        "/containers/create",
        {
            "Image": "checked",
            "Cmd": ["sleep", "1000"],
            "Env": ["PATH=/bin"],
            "Shell": ["/bin/busybox", "sh", "-c"],
            "Healthcheck": {"Retries": 5},
            "HostConfig": {"NetworkMode": "none"},
        },
    )
    assert status == 201, body
    ident = start(daemon, body["Id"])
    assert daemon.inspect(ident)["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "echo image $0"],
        "Interval": 50 * MS,
        "Retries": 5,
    }
    assert becomes(daemon, ident, "healthy")["Log"][0]["Output"] == "image sh\n"
    remove(daemon, ident)


def test_probes_rest_while_the_container_is_paused_and_end_with_it(daemon, box):
    ident = box("CMD-SHELL", "date +%s%N", timeout=200)
    becomes(daemon, ident, "healthy")
    process = prober(ident)
    daemon.cli("docker", "pause", ident)
    before = health(daemon, ident)
    assert before["Status"] == "healthy"
    # Longer than an interval and a timeout: nothing may have come of that.
    assert daemon.cli("docker", "wait", run_for(daemon, "0.5")).stdout == b"0\n"
    assert health(daemon, ident)["Log"] == before["Log"]
    daemon.cli("docker", "unpause", ident)
    wait_until(lambda: health(daemon, ident)["Log"][-1] != before["Log"][-1], "probes go on")
    assert all(result["ExitCode"] == 0 for result in health(daemon, ident)["Log"])
    daemon.cli("docker", "kill", ident)
    wait_until(lambda: not Path(f"/proc/{process}").exists(), "the prober has ended")
    assert health(daemon, ident)["Status"] == "healthy"


def run_for(daemon, seconds):
    """A container that lives so long, and removes itself."""
    return daemon.cli("docker", "run", "-d", "--rm", "--network", "none", "busybox", "sleep", seconds).stdout.decode().strip()


def test_ps_shows_health_and_filters_by_it(daemon, box):
    good, bad = box("CMD", "true"), box("CMD", "false", retries=1)
    slow = box("CMD", "true", interval=600_000)
    for ident, status in ((good, "healthy"), (bad, "unhealthy"), (slow, "starting")):
        becomes(daemon, ident, status)
        rows = daemon.get(f'/containers/json?filters={{"health":["{status}"]}}')
        row = next(row for row in rows if row["Id"] == ident)
        assert row["Status"].endswith("(health: starting)" if status == "starting" else f"({status})")
        assert not any(row["Id"] == ident for row in daemon.get('/containers/json?filters={"health":["none"]}'))
    status, body = daemon.request("GET", '/containers/json?filters={"health":["odd"]}')
    assert (status, body) == (400, {"message": "unrecognised filter value for health: odd"})


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"Test": ["CMD", "true"], "Interval": 1}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Test": ["CMD", "true"], "Retries": -1}, "Retries in Healthcheck cannot be negative"),
    ],
)
def test_a_check_that_can_not_be_is_refused(daemon, check, message):
    status, body = daemon.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"], "Healthcheck": check})
    assert (status, body) == (400, {"message": message})


# What the container can do to its prober.


def test_nothing_in_the_container_sees_its_prober(daemon, box):
    ident = box("CMD", "true")
    becomes(daemon, ident, "healthy")
    process = prober(ident)

    def inside() -> set[str]:
        return set(daemon.cli("docker", "exec", ident, "sh", "-c", "cat /proc/[0-9]*/comm").stdout.decode().split())

    # A probe has its maker's name for as long as it hasn't executed its program.
    wait_until(lambda: inside() <= {"sleep", "sh", "cat", "true"}, "there is nobody but the container's own")
    daemon.cli("docker", "exec", ident, "sh", "-c", "kill -9 -1", code=None)
    assert Path(f"/proc/{process}").exists()
    assert "boxrun" not in daemon.cli("docker", "top", ident).stdout.decode()


def test_a_prober_is_confined_and_holds_nothing_of_the_hosts(daemon, box):
    ident = box("CMD", "true", User="1000:1000")
    becomes(daemon, ident, "healthy")
    process, main = prober(ident), daemon.inspect(ident)["State"]["Pid"]
    # By namespaces: all but the one that would show it.
    for kind in ("mnt", "net", "ipc", "uts", "cgroup"):
        assert os.readlink(f"/proc/{process}/ns/{kind}") == os.readlink(f"/proc/{main}/ns/{kind}"), kind
    assert os.readlink(f"/proc/{process}/ns/pid_for_children") == os.readlink(f"/proc/{main}/ns/pid")
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":\t" in line)
    of_main = dict(line.split(":\t", 1) for line in Path(f"/proc/{main}/status").read_text().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["1000"] * 4
    assert status["CapEff"] == "0000000000000000"
    assert status["CapBnd"] == of_main["CapBnd"]
    assert (status["Seccomp"], status["Seccomp_filters"]) == ("2", of_main["Seccomp_filters"])
    assert os.stat(f"/proc/{process}/root").st_ino == os.stat(f"/proc/{main}/root").st_ino
    assert os.readlink(f"/proc/{process}/cwd") == "/"
    # By descriptors: nothing that leads to a file of the host's.
    kinds = {os.readlink(f"/proc/{process}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{process}/fd")}
    assert kinds <= {"/dev/null", "socket", "pipe", "anon_inode"}
    # Its program can't be opened for writing, by whoever gets to see it (CVE-2019-5736).
    with pytest.raises(OSError, match=r"Read-only|Text file busy|not permitted"):
        os.open(f"/proc/{process}/exe", os.O_WRONLY)


def test_a_prober_can_not_be_traced_by_its_own_user(daemon, box):
    ident = box("CMD", "true", User="1000:1000")
    becomes(daemon, ident, "healthy")
    process = prober(ident)
    child = os.fork()
    if not child:
        os.setgroups(())
        os.setresgid(1000, 1000, 1000)
        os.setresuid(1000, 1000, 1000)
        refused = ctypes.CDLL(None, use_errno=True).ptrace(16, process, 0, 0) < 0
        try:
            os.listdir(f"/proc/{process}/fd")
            readable = True
        except PermissionError:
            readable = False
        os._exit(0 if refused and not readable else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize(
    "host",
    [
        {"CapAdd": ["SYS_PTRACE"]},
        {"CapAdd": ["SYS_PTRACE"], "SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']},
        {"CapAdd": ["SYS_PTRACE"], "Ulimits": [{"Name": "cpu", "Soft": 9, "Hard": 9}]},
    ],
    ids=["default filter", "own filter", "limits"],
)
def test_who_may_trace_in_the_container_sees_no_more_than_programs(daemon, box, host):
    ident = box("CMD", "cat", "/dev/null", interval=1, HostConfig=host)
    becomes(daemon, ident, "healthy")
    main = daemon.inspect(ident)["State"]["Pid"]
    allowed = int(re.search(r"CapPrm:\t(\w+)", Path(f"/proc/{main}/status").read_text())[1], 16)
    seen = scan(main, seconds=1.5)
    # It has looked on while probes began, and what is nobody's program yet is what it is here for.
    assert any(kind == "exe" and target.startswith("/bin/") for kind, target in seen)
    for kind, target in seen:
        if kind == "CapPrm":
            assert int(target, 16) & ~allowed == 0, seen
        elif kind == "fd":
            assert target in ("/dev/null", "pipe"), seen
        elif kind in ("root", "cwd"):
            assert target == "/", seen
        else:
            # Before it executes the program it is ours, which has no name anywhere.
            assert target == "/" or target.startswith("/bin/"), seen


def scan(main, seconds):
    """What a tracer in the container of process ``main`` sees of others meanwhile: kinds and what they lead to."""
    reader, writer = os.pipe()
    pidfd = os.pidfd_open(main)
    child = os.fork()
    if not child:
        try:
            setns(pidfd, CLONE_NEWNS | CLONE_NEWPID)
            scanner = os.fork()
            if not scanner:
                os.write(writer, repr(watch(time.monotonic() + seconds)).encode())
            else:
                os.waitpid(scanner, 0)
        finally:
            os._exit(0)
    os.close(writer)
    os.close(pidfd)
    with open(reader, "rb") as pipe:
        seen = ast.literal_eval(pipe.read().decode())
    os.waitpid(child, 0)
    return seen


def watch(end):
    """Look through every process but this one and process 1, again and again."""
    seen = set()
    own = {"1", str(os.getpid())}
    while time.monotonic() < end:
        for number in os.listdir("/proc"):
            if not number.isdigit() or number in own:
                continue
            for kind in ("exe", "root", "cwd"):
                with suppress(OSError):
                    seen.add((kind, os.readlink(f"/proc/{number}/{kind}")))
            with suppress(OSError):
                for fd in os.listdir(f"/proc/{number}/fd"):
                    with suppress(OSError):
                        seen.add(("fd", os.readlink(f"/proc/{number}/fd/{fd}").partition(":")[0]))
            with suppress(OSError), open(f"/proc/{number}/status") as status:
                seen |= {("CapPrm", line.split()[1]) for line in status if line.startswith("CapPrm")}
    return seen


def test_what_probes_leave_behind_in_the_hosts_pid_namespace_does_not_pile_up(daemon, box):
    ident = box("CMD-SHELL", "sleep 0.01 & exit 0", interval=20, HostConfig={"PidMode": "host"})
    becomes(daemon, ident, "healthy")
    process, first = prober(ident), health(daemon, ident)["Log"][-1]
    # Ten more probes, of which the log shows five at a time.
    for _ in range(3):
        latest = health(daemon, ident)["Log"][-1]
        wait_until(lambda latest=latest: latest not in health(daemon, ident)["Log"], "five more probes have run")
    assert health(daemon, ident)["Log"][-1] != first
    # One probe may be under way.
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    assert len(children) <= 1, children


def test_a_prober_passes_over_what_a_newer_supervisor_asks_for(daemon, box):
    ident = box("CMD", "true")
    becomes(daemon, ident, "healthy")
    process = prober(ident)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.settimeout(10)
        (path,) = daemon.exec_root.rglob(f"probers/{ident}*")
        link.connect(str(path))
        assert decode_message(link.recv(1 << 16)[1:]).prober == process
        send_inline(link, msgpack.encode({"type": "dance", "sequence": 1}))
        send_inline(link, encode(Ask(sequence=2)))
        while (answer := decode_message(link.recv(1 << 16)[1:])).sequence != 2:
            assert answer.prober == process
    assert probers(ident) == [process]
