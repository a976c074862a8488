"""kill -9 around execs: a stream goes on, an exit code is the true one or 255, and nothing is left."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until

pytestmark = needs_root


@pytest.fixture
def box(own_daemon):
    """A container of a daemon of the test's own."""
    status, body = own_daemon.request(
        "POST",
        "/containers/create",
        {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}},
    )
    assert status == 201, body
    assert own_daemon.request("POST", f"/containers/{body['Id']}/start")[0] == 204
    return body["Id"]


def create(daemon: Daemon, box: str, script: str) -> str:
    status, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["sh", "-c", script]})
    assert status == 201, body
    return body["Id"]


def start(daemon: Daemon, ident: str) -> int:
    return daemon.request("POST", f"/exec/{ident}/start", {"Detach": True})[0]


def about(daemon: Daemon, ident: str) -> dict:
    status, body = daemon.request("GET", f"/exec/{ident}/json")
    assert status == 200, body
    return body


def ended(daemon: Daemon, ident: str) -> dict:
    return wait_until(lambda: (now := about(daemon, ident)) and not now["Running"] and now, f"exec {ident} has ended")


def restart_supervisor(daemon: Daemon) -> None:
    before = daemon.supervisor_pid()
    os.kill(before, signal.SIGKILL)

    def replaced() -> bool:
        try:
            return daemon.supervisor_pid() != before
        except (IndexError, ValueError, OSError):
            return False

    wait_until(replaced, "a new supervisor")


def kill(daemon: Daemon, victim: str) -> None:
    if victim == "boxshipd":
        daemon.kill()
        daemon.start()
    elif victim == "supervisor":
        restart_supervisor(daemon)
    else:
        # One that was killed before may have to be replaced first.
        wait_until(lambda: daemon.children(daemon.supervisor_pid()), "there is a zygote")
        os.kill(daemon.zygote_pid(), signal.SIGKILL)


def shims(daemon: Daemon, marker: bytes) -> list[int]:
    """The lasting processes of this daemon's shims whose command line begins so."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            if Path(f"/proc/{entry}/cmdline").read_bytes().startswith(marker):
                found.append(int(entry))
        except (OSError, ValueError):
            continue
    return found


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "zygote"])
def test_a_stream_goes_on(own_daemon, box, victim):
    script = "echo ready; read x; echo got $x; exit 6"
    process = own_daemon.popen("boxship", "exec", "-i", box, "sh", "-c", script, stdin=-1, stdout=-1)
    assert process.stdout.readline() == b"ready\n"
    (ident,) = own_daemon.inspect(box)["ExecIDs"]
    kill(own_daemon, victim)
    assert about(own_daemon, ident)["Running"]
    assert own_daemon.inspect(box)["ExecIDs"] == [ident]
    said, _ = process.communicate(b"this\n", timeout=30)
    assert said == b"got this\n"
    assert process.returncode == 6
    assert ended(own_daemon, ident)["ExitCode"] == 6


@pytest.mark.parametrize("both", [False, True])
def test_an_end_that_nobody_saw_is_known_afterwards(own_daemon, box, both):
    ident = create(own_daemon, box, "while [ ! -e /tmp/go ]; do sleep 0.01; done; exit 9")
    assert start(own_daemon, ident) == 200
    waiting = create(own_daemon, box, "exit 4")
    over = create(own_daemon, box, "exit 5")
    assert start(own_daemon, over) == 200
    assert ended(own_daemon, over)["ExitCode"] == 5
    supervisor, pid = own_daemon.supervisor_pid(), own_daemon.inspect(box)["State"]["Pid"]
    own_daemon.kill()
    if both:
        os.kill(supervisor, signal.SIGKILL)
    Path(f"/proc/{pid}/root/tmp/go").touch()
    wait_until((own_daemon.exec_root / f"execs/{ident}.exit").exists, "its shim has put the end on record")
    own_daemon.start()
    assert ended(own_daemon, ident)["ExitCode"] == 9
    assert about(own_daemon, over)["ExitCode"] == 5
    # What was only created before is still there to be started.
    assert about(own_daemon, waiting)["ExitCode"] is None
    assert start(own_daemon, waiting) == 200
    assert ended(own_daemon, waiting)["ExitCode"] == 4
    wait_until(lambda: not os.listdir(own_daemon.exec_root / "execs"), "the runtime has forgotten them")


def test_an_execs_shim_dies(own_daemon, box):
    ident = create(own_daemon, box, "sleep 10000")
    assert start(own_daemon, ident) == 200
    other = create(own_daemon, box, "sleep 10000")
    assert start(own_daemon, other) == 200
    pid = about(own_daemon, ident)["Pid"]
    for shim in shims(own_daemon, b"boxrun-exec " + ident.encode()[:40]):
        os.kill(shim, signal.SIGKILL)
    assert ended(own_daemon, ident)["ExitCode"] == 255
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its program was killed")
    assert about(own_daemon, other)["Running"]
    assert own_daemon.inspect(box)["State"]["Running"]


@pytest.mark.parametrize("mode", ["", "host"])
def test_the_container_ends_with_execs_in_it(own_daemon, mode):
    status, body = own_daemon.request(
        "POST",
        "/containers/create",
        {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none", "PidMode": mode}},
    )
    assert status == 201, body
    box = body["Id"]
    own_daemon.request("POST", f"/containers/{box}/start")
    idents = [create(own_daemon, box, "sleep 10000 & sleep 20000") for _ in range(3)]
    for ident in idents:
        assert start(own_daemon, ident) == 200
    pids = [about(own_daemon, ident)["Pid"] for ident in idents]
    assert own_daemon.request("POST", f"/containers/{box}/kill")[0] == 204
    for ident in idents:
        assert ended(own_daemon, ident)["ExitCode"] == 137
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "every program was killed")
    status, body = own_daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["true"]})
    assert (status, body["message"]) == (409, f"container {box} is not running")


def test_a_storm(own_daemon, box):
    """Two hundred at once: every exit code is the right one, and nothing is left of any."""
    results: dict[int, int | None] = {}

    def one(number: int) -> None:
        ident = create(own_daemon, box, f"exit {number % 100 + 1}")
        assert start(own_daemon, ident) == 200
        results[number] = ended(own_daemon, ident)["ExitCode"]

    def some(first: int) -> None:
        for number in range(first, first + 10):
            one(number)

    supervisor = own_daemon.supervisor_pid()
    threads = [threading.Thread(target=some, args=(first,)) for first in range(0, 200, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: number % 100 + 1 for number in range(200)}
    wait_until(lambda: not os.listdir(own_daemon.exec_root / "execs"), "nothing is left in the run directory")
    descriptors = len(os.listdir(f"/proc/{supervisor}/fd"))
    assert descriptors < 60, os.listdir(f"/proc/{supervisor}/fd")
    wait_until(lambda: own_daemon.inspect(box)["ExecIDs"] is None, "no exec runs")


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "zygote", "shims"])
def test_killed_while_execs_begin(own_daemon, box, victim):
    """At whatever step of an exec it happens: the answer is a failure or the truth, the inspection the truth or 255."""
    codes: list[tuple[int, int | None]] = []
    stop = threading.Event()

    def right() -> int:
        return sum(code == 3 for _, code in codes)

    def begin() -> None:
        while not stop.is_set():
            try:
                ident = create(own_daemon, box, "exit 3")
                status = start(own_daemon, ident)
            except (OSError, AssertionError, IndexError):
                continue
            try:
                codes.append((status, ended(own_daemon, ident)["ExitCode"]))
            except (OSError, IndexError):
                continue

    threads = [threading.Thread(target=begin) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            seen = right()
            wait_until(lambda seen=seen: right() > seen + 3, "execs go on")
            if victim == "shims":
                for shim in own_daemon.children(own_daemon.zygote_pid()):
                    if b"boxrun-shim" not in Path(f"/proc/{shim}/cmdline").read_bytes():
                        os.kill(shim, signal.SIGKILL)
            else:
                kill(own_daemon, victim)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {code for status, code in codes if status == 200} <= {3, 255}
    assert 0 not in {code for _, code in codes}
    assert right() >= 16
    assert own_daemon.inspect(box)["State"]["Running"]
    wait_until(lambda: not os.listdir(own_daemon.exec_root / "execs"), "nothing is left in the run directory")


def frozen_in(daemon: Daemon, box: str) -> Path:
    """The container's cgroup, frozen by somebody else than us."""
    pid = daemon.inspect(box)["State"]["Pid"]
    (path,) = [line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::")]
    root = next(root for root in (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")) if (root / path[1:]).is_dir())
    group = root / path[1:]
    (group / "cgroup.freeze").write_text("1")
    wait_until(lambda: "frozen 1" in (group / "cgroup.events").read_text(), "it is frozen")
    return group


def test_an_exec_whose_shim_dies_while_it_gets_in_never_runs(own_daemon, box):
    first = own_daemon.inspect(box)["State"]["Pid"]
    root = Path(f"/proc/{first}/root")
    group = frozen_in(own_daemon, box)
    ident = create(own_daemon, box, "touch /tmp/ran")
    answers: list[tuple[int, float]] = []
    starting = threading.Thread(target=lambda: answers.append((start(own_daemon, ident), time.monotonic())))
    starting.start()

    def joining() -> list[int]:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split() if int(pid) != first]

    (pid,) = wait_until(joining, "its process is in the cgroup")
    worker = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
    thawed = time.monotonic()
    (group / "cgroup.freeze").write_text("0")
    starting.join()
    ((status, answered),) = answers
    assert status >= 400
    assert answered - thawed < 10
    wait_until(lambda: not joining(), "its process has ended")
    assert not (root / "tmp/ran").exists()
    assert start(own_daemon, create(own_daemon, box, "true")) == 200


def test_a_pause_in_the_midst_of_execs(own_daemon, box):
    """Each either runs or is refused: none waits in a frozen container and runs after having been refused."""
    root = Path(f"/proc/{own_daemon.inspect(box)['State']['Pid']}/root")
    outcomes: dict[str, tuple[int, float]] = {}
    stop = threading.Event()

    def begin(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            name = f"{number}-{count}"
            status, body = own_daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["touch", f"/tmp/{name}"]})
            if status != 201:
                continue
            begun = time.monotonic()
            outcomes[name] = start(own_daemon, body["Id"]), time.monotonic() - begun

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(8):
        seen = len(outcomes)
        wait_until(lambda seen=seen: len(outcomes) > seen, "execs go on")
        assert own_daemon.request("POST", f"/containers/{box}/pause")[0] == 204
        assert own_daemon.request("POST", f"/containers/{box}/unpause")[0] == 204
    stop.set()
    for thread in threads:
        thread.join()
    wait_until(
        lambda: all((root / "tmp" / name).exists() for name, (status, _) in outcomes.items() if status == 200), "all have run"
    )
    assert {status for status, _ in outcomes.values()} <= {200, 409}
    assert not [name for name, (status, _) in outcomes.items() if status != 200 and (root / "tmp" / name).exists()]
    assert max(seconds for _, seconds in outcomes.values()) < 15


def test_a_burst_gives_its_memory_back(own_daemon, box):
    for _ in range(20):
        ident = create(own_daemon, box, "true")
        assert start(own_daemon, ident) == 200
    zygote = own_daemon.zygote_pid()
    begun = time.monotonic()
    # The container's shim and the spares.
    wait_until(lambda: len(own_daemon.children(zygote)) <= 3, "shims that have served execs are gone", 20)
    assert time.monotonic() - begun < 15
