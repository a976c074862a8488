"""kill -9 of each of our processes, in each state a container can be in; afterwards the truth is told and nothing is left.

That nothing is left (mounts, cgroups, processes, files) is checked when each daemon is taken down.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from support.daemon import Daemon, wait_until
from support.victims import kill

VICTIMS = ("boxshipd", "supervisor", "zygote")


def create(daemon: Daemon, *command: str, **host) -> str:
    status, body = daemon.request(
        "POST", "/containers/create", {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
    )
    assert status == 201, body
    return body["Id"]


def start(daemon: Daemon, ident: str) -> None:
    status, body = daemon.request("POST", f"/containers/{ident}/start")
    assert status == 204, body


def container_directories(daemon: Daemon) -> set[str]:
    return set(os.listdir(daemon.data_root / "containers"))


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_running_container_lives_on(own_daemon, victim):
    ident = create(
        own_daemon, "sh", "-c", "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.01; done; echo end; exit 23"
    )
    start(own_daemon, ident)
    pid = own_daemon.inspect(ident)["State"]["Pid"]
    kill(own_daemon, victim)
    state = own_daemon.wait_state(ident, "running")["State"]
    assert state["Pid"] == pid
    Path(f"/proc/{pid}/root/stop").touch()
    assert own_daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 23
    lines = own_daemon.cli("boxship", "logs", ident).stdout.split()
    assert lines[-1] == b"end"
    assert lines[:-1] == [b"%d" % number for number in range(1, len(lines))]
    own_daemon.request("DELETE", f"/containers/{ident}")
    assert ident not in wait_until(lambda: container_directories(own_daemon) or {"none"}, "the directory is listed")


@pytest.mark.parametrize("victim", VICTIMS)
def test_everything_works_after_a_death(own_daemon, victim):
    kill(own_daemon, victim)
    for _ in range(3):
        assert own_daemon.cli("boxship", "run", "--rm", "busybox", "echo", "works").stdout == b"works\n"


def test_a_shims_death_is_no_success(own_daemon):
    ident, other = create(own_daemon, "sleep", "1000"), create(own_daemon, "sleep", "1000")
    start(own_daemon, ident)
    start(own_daemon, other)
    pid = own_daemon.inspect(ident)["State"]["Pid"]
    os.kill(own_daemon.shim_pid(ident), signal.SIGKILL)
    state = own_daemon.wait_state(ident, "exited")["State"]
    assert state["ExitCode"] == 255
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "its process is gone")
    assert own_daemon.inspect(other)["State"]["Running"]


def test_what_ended_while_nobody_watched_is_told_truly(own_daemon):
    ident = create(own_daemon, "sh", "-c", "until [ -e /stop ]; do sleep 0.01; done; exit 42")
    start(own_daemon, ident)
    pid = own_daemon.inspect(ident)["State"]["Pid"]
    supervisor = own_daemon.supervisor_pid()
    own_daemon.kill()
    os.kill(supervisor, signal.SIGKILL)
    Path(f"/proc/{pid}/root/stop").touch()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    own_daemon.start()
    assert own_daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 42


def test_shim_and_supervisor_and_daemon_all_at_once(own_daemon):
    ident = create(own_daemon, "sleep", "1000")
    start(own_daemon, ident)
    pids = [own_daemon.supervisor_pid(), own_daemon.shim_pid(ident)]
    own_daemon.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    own_daemon.start()
    assert own_daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 255


def test_restart_policies_are_applied_after_the_daemons_return(own_daemon):
    ident = create(
        own_daemon, "sh", "-c", "until [ -e /stop ]; do sleep 0.01; done; rm /stop; exit 1", RestartPolicy={"Name": "always"}
    )
    start(own_daemon, ident)
    pid = own_daemon.inspect(ident)["State"]["Pid"]
    own_daemon.kill()
    Path(f"/proc/{pid}/root/stop").touch()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it has ended")
    own_daemon.start()
    wait_until(
        lambda: own_daemon.inspect(ident)["State"]["Running"] and own_daemon.inspect(ident)["State"]["Pid"] != pid,
        "it runs again",
    )
    own_daemon.request("DELETE", f"/containers/{ident}?force=1")


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("act", ["create", "start", "stop", "restart", "remove"])
def test_a_death_in_the_middle(own_daemon, victim, act):
    """Many acts at once while the victim dies: whatever was acknowledged holds, whatever wasn't is not half there."""
    count = 12
    ids: list[str] = [] if act == "create" else [create(own_daemon, "sleep", "1000") for _ in range(count)]
    if act in ("stop", "restart", "remove"):
        for ident in ids:
            start(own_daemon, ident)
    before = {ident: own_daemon.inspect(ident)["State"]["Pid"] for ident in ids}
    acknowledged: list[str] = []
    begun = threading.Event()

    def act_on(number: int) -> None:
        begun.set()
        try:
            if act == "create":
                acknowledged.append(create(own_daemon, "true"))
                return
            method, path = {
                "start": ("POST", f"/containers/{ids[number]}/start"),
                "stop": ("POST", f"/containers/{ids[number]}/stop?t=0"),
                "restart": ("POST", f"/containers/{ids[number]}/restart?t=0"),
                "remove": ("DELETE", f"/containers/{ids[number]}?force=1"),
            }[act]
            status, _ = own_daemon.request(method, path)
            if status in (204, 304):
                acknowledged.append(ids[number])
        except (OSError, ValueError, IndexError, AssertionError):
            # The connection went with the daemon: this one wasn't acknowledged.
            pass

    threads = [threading.Thread(target=act_on, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    kill(own_daemon, victim)
    for thread in threads:
        thread.join(60)
    known = {c["Id"]: c["State"] for c in own_daemon.get("/containers/json?all=1")}
    for ident in acknowledged:
        if act == "remove":
            assert ident not in known
        else:
            wanted = {"create": "created", "start": "running", "stop": "exited", "restart": "running"}[act]
            state = own_daemon.wait_state(ident, wanted)["State"]
            assert act != "restart" or state["Pid"] != before[ident]
    for ident in known:
        status, body = own_daemon.request("DELETE", f"/containers/{ident}?force=1")
        assert status in (204, 404), body
    wait_until(lambda: not container_directories(own_daemon), f"no directory is left: {container_directories(own_daemon)}")
    assert own_daemon.cli("boxship", "run", "--rm", "busybox", "echo", "works").stdout == b"works\n"
