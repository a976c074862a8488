"""kill -9 while containers are paused or changed: what was answered stays, and what wasn't is whole or not there."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
from support.daemon import Daemon, wait_until

pytestmark = pytest.mark.parametrize("own_daemon", [("--shutdown-timeout", "0")], indirect=True)


def run(daemon: Daemon, *command: str, **host) -> str:
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none", **host}}
    status, answer = daemon.request("POST", "/containers/create", body)
    assert status == 201, answer
    assert daemon.request("POST", f"/containers/{answer['Id']}/start")[0] == 204
    return answer["Id"]


def frozen(daemon: Daemon, ident: str) -> bool:
    return "frozen 1" in next(Path("/sys/fs/cgroup").rglob(f"{daemon.name}/{ident}/cgroup.events")).read_text()


def kill(daemon: Daemon, victim: str) -> None:
    if victim in ("boxshipd", "both"):
        daemon.kill()
    if victim in ("supervisor", "both"):
        pid = daemon.supervisor_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: victim == "both" or _next_supervisor(daemon, pid), "a new supervisor is there")
    if victim in ("boxshipd", "both"):
        daemon.start()


def _next_supervisor(daemon: Daemon, before: int) -> bool:
    try:
        return daemon.supervisor_pid() != before
    except (IndexError, ValueError, OSError):
        return False


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "both"])
def test_a_paused_container_stays_paused(own_daemon, victim):
    ident = run(own_daemon, "sleep", "1000", RestartPolicy={"Name": "always"})
    other = run(own_daemon, "sleep", "1000")
    assert own_daemon.request("POST", f"/containers/{ident}/pause")[0] == 204
    kill(own_daemon, victim)
    own_daemon.wait_state(ident, "paused")
    assert frozen(own_daemon, ident)
    assert own_daemon.inspect(other)["State"]["Status"] == "running"
    assert own_daemon.request("POST", f"/containers/{ident}/unpause")[0] == 204
    assert not frozen(own_daemon, ident)


def test_a_paused_container_whose_shim_is_killed_is_lost_and_starts_anew(own_daemon):
    ident = run(own_daemon, "sleep", "1000")
    own_daemon.request("POST", f"/containers/{ident}/pause")
    os.kill(own_daemon.shim_pid(ident), signal.SIGKILL)
    state = own_daemon.wait_state(ident, "exited")["State"]
    assert (state["ExitCode"], state["Paused"]) == (255, False)
    assert own_daemon.request("POST", f"/containers/{ident}/start")[0] == 204
    assert own_daemon.inspect(ident)["State"]["Status"] == "running"


def limits(daemon: Daemon, ident: str) -> tuple[object, ...]:
    """What the record says, and what the kernel enforces."""
    host = daemon.inspect(ident)["HostConfig"]
    sample = daemon.get(f"/containers/{ident}/stats?stream=0&one-shot=1")
    return host["Memory"], host["PidsLimit"] or 0, sample["memory_stats"]["limit"], sample["pids_stats"].get("limit", 0)


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "both"])
def test_an_update_is_whole_whoever_dies(own_daemon, victim):
    for delay in (0.0, 0.001, 0.003, 0.01):
        ident = run(own_daemon, "sh", "-c", "while :; do sleep 0.01; done", Memory=64 << 20)
        answered: list[int] = []
        client = threading.Thread(target=_update, args=(own_daemon, ident, answered))
        client.start()
        client.join(delay)
        kill(own_daemon, victim)
        client.join()
        found = wait_until(lambda ident=ident: _settled(own_daemon, ident), "record and kernel say the same")
        assert found == NEW or answered != [200]
        assert own_daemon.inspect(ident)["State"]["Status"] == "running"
        wait_until(lambda ident=ident: not frozen(own_daemon, ident), "it goes on")


OLD, NEW = (64 << 20, 0), (96 << 20, 20)


def _update(daemon: Daemon, ident: str, answered: list[int]) -> None:
    try:
        answered.append(daemon.request("POST", f"/containers/{ident}/update", {"Memory": NEW[0], "PidsLimit": NEW[1]})[0])
    except (OSError, IndexError):
        return


def _settled(daemon: Daemon, ident: str) -> tuple[object, ...]:
    """The limits, where the record and the kernel say the same: all of the old ones, or all of the new."""
    memory, pids, in_force, tasks = limits(daemon, ident)
    return (memory, pids) if (memory, pids) == (in_force, tasks) and (memory, pids) in (OLD, NEW) else ()
