"""Which containers a prober may be confined with for good, and what is done for it that it may not do itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from boxrun.container.cgroups import detect
from boxrun.container.spec import Cgroup, Process, Rlimit
from boxrun.errors import SetupError
from boxrun.linux.namespaces import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID
from boxrun.linux.process import pidfd_open
from boxrun.prober.launch import drain
from boxrun.prober.plan import may_confine, prepare
from boxrun.prober.protocol import MAX_OUTPUT, Check, Health, ProbeResult, Report, Schedule, sound
from boxrun.supervisor.prober_link import ProberGoneError
from boxrun.supervisor.probers import foreign, kill_member


def check(**fields: object) -> Check:
    own = {name: fields.pop(name) for name in ("rlimits", "capabilities") if name in fields}
    process = Process(args=("true",), **own)  # type: ignore[arg-type]
    schedule = Schedule(interval=1, timeout=1, retries=1, start_period=0, start_interval=1)
    whole = {"id": "a", "run": 1, "cgroup": Cgroup(parent="/", name="a"), "process": process, "schedule": schedule}
    return Check(**(whole | {"started_at": 0} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "soft", "allowed"),
    [
        ("core", 0, True),
        ("nofile", 1024, True),
        ("nofile", -1, True),
        ("nofile", 10, False),
        ("cpu", 1, False),
        ("as", 1 << 20, False),
    ],
)
def test_limits_that_would_end_a_prober_are_the_probes_alone(name, soft, allowed):
    assert may_confine(check(rlimits=(Rlimit(name=name, soft=soft, hard=soft),))) is allowed


def test_a_filter_of_the_users_is_the_probes_alone():
    assert may_confine(check())
    assert not may_confine(check(custom=True))


def test_where_something_may_trace_every_probe_is_confined_by_itself():
    assert may_confine(check(capabilities=("CAP_CHOWN",)))
    assert not may_confine(check(capabilities=("CAP_CHOWN", "CAP_SYS_PTRACE")))


def report(*results: ProbeResult, **fields: int) -> Report:
    of_health = {name: fields.pop(name) for name in ("streak", "count") if name in fields}
    return Report(**{"id": "a", "run": 1, "prober": 7, "health": Health(log=results, **of_health)} | fields)  # type: ignore[arg-type]


def test_what_a_prober_says_is_bounded():
    result = ProbeResult(start=0, end=0, exit_code=-1, output=b"x" * (MAX_OUTPUT + 100))
    assert sound(report(*[result] * 5))
    assert not sound(report(*[result] * 6))
    assert not sound(report(ProbeResult(start=0, end=0, exit_code=0, output=b"x" * 10000)))


@pytest.mark.parametrize("field", ["start", "end", "exit_code"])
def test_a_probers_numbers_are_such_as_can_be_shown_and_stored(field):
    good = {"start": 1, "end": 1, "exit_code": 255}
    assert sound(report(ProbeResult(**good)))
    for number in (-2, 1 << 63):
        assert not sound(report(ProbeResult(**good | {field: number})))
        assert not sound(report(count=number))
        assert not sound(report(stuck=number))


# Which namespaces are a container's.


@pytest.fixture
def stranger():
    """A process in network and mount namespaces of its own; its number, its descriptor, and what ends it."""
    with subprocess.Popen(
        ["unshare", "--user", "--net", "--mount", "sh", "-c", "echo; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"\n"
        pidfd = pidfd_open(process.pid)
        yield process, pidfd
        os.close(pidfd)


def test_a_process_is_in_the_namespaces_that_are_not_ours(stranger):
    process, pidfd = stranger
    flags = foreign(process.pid, pidfd)
    assert flags & CLONE_NEWNET
    assert flags & CLONE_NEWNS
    assert not flags & CLONE_NEWPID
    process.stdin.close()


def test_a_process_that_has_ended_is_in_no_namespaces_rather_than_in_ours(stranger):
    process, pidfd = stranger
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProberGoneError):
        foreign(process.pid, pidfd)
    process.wait()
    with pytest.raises(ProberGoneError):
        foreign(process.pid, pidfd)


def test_a_number_that_has_come_to_mean_another_process_is_not_believed(stranger):
    process, pidfd = stranger
    process.stdin.close()
    process.wait()
    with pytest.raises(ProberGoneError):
        foreign(os.getpid(), pidfd)


def test_nobody_is_confined_into_the_hosts_mount_namespace():
    with pytest.raises(SetupError, match="no mount namespace of its own"):
        prepare(check(namespaces=CLONE_NEWNET), detect(), -1, os.getpid(), 0)
    code = (
        "from boxrun.prober import confine, plan; from types import SimpleNamespace;"
        "confine.enter(SimpleNamespace(id='a', namespaces=0), ())"
    )
    refused = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert b"SetupError: container a has no mount namespace of its own" in refused.stderr


def test_only_a_containers_own_processes_are_killed_for_its_prober():
    with subprocess.Popen(["sleep", "60"]) as child:
        kill_member(list, child.pid)
        kill_member(lambda: [1, os.getpid()], child.pid)
        assert child.poll() is None
        kill_member(lambda: [child.pid], child.pid)
        assert child.wait(10) == -signal.SIGKILL
    kill_member(lambda: [child.pid], child.pid)


def test_output_beyond_the_limit_is_thrown_away():
    reader, writer = os.pipe2(os.O_NONBLOCK)
    null = os.open("/dev/null", os.O_RDWR)
    kept = bytearray()
    try:
        written = os.write(writer, b"y" * 60000)
        while drain(reader, kept, MAX_OUTPUT, null) and len(kept) <= MAX_OUTPUT:
            continue
        assert len(kept) == MAX_OUTPUT + 1
        assert drain(reader, kept, MAX_OUTPUT, null)
        assert os.write(writer, b"y" * written) == written, "the pipe is empty again"
        os.close(writer)
        while drain(reader, kept, MAX_OUTPUT, null):
            continue
        assert len(kept) == MAX_OUTPUT + 1
    finally:
        os.close(reader)
        os.close(null)
