"""kill -9 at every step of exec, restart, update, cp and commit, one after the other.

A step is a system call that makes something durable or tells somebody (``support.steps``). What was answered holds, and what
wasn't is whole or not there; then everything goes on. That nothing is left is checked when the daemon is taken down.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.archives import files
from support.archiving import call, content, get, put
from support.daemon import Daemon, wait_until
from support.steps import STEPS, killed_at

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="no strace"),
    pytest.mark.parametrize("own_daemon", [("--shutdown-timeout", "0")], indirect=True),
    pytest.mark.timeout(600),
]

BOTH = ("boxshipd", "supervisor")
MOST = 40
"""No act has more steps of a kind than that: its end is the first that nobody is killed at."""

Act = Callable[[Daemon, str], int]
"""Does something to a container; the answer's status, 0 where there was none."""

Check = Callable[[Daemon, str, bool, str], None]
"""Looks at the container afterwards; told whether the act was acknowledged, and what was so before it."""


def run(daemon: Daemon) -> str:
    body = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "trap exit TERM; while :; do sleep 0.05; done"],
        "HostConfig": {"NetworkMode": "none", "Memory": 64 << 20},
    }
    status, answer = daemon.request("POST", "/containers/create", body)
    assert status == 201, answer
    assert daemon.request("POST", f"/containers/{answer['Id']}/start")[0] == 204
    return answer["Id"]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def exec_(daemon: Daemon, ident: str) -> int:
    status, made = daemon.request("POST", f"/containers/{ident}/exec", {"Cmd": ["sh", "-c", "echo once >> /ran"]})
    assert isinstance(made, dict)
    return daemon.request("POST", f"/exec/{made['Id']}/start", {"Detach": True})[0] if status == 201 else status


def exec_checked(daemon: Daemon, ident: str, acknowledged: bool, before: str) -> None:
    assert daemon.inspect(ident)["State"]["Status"] == "running"
    ran = Path(f"/proc/{daemon.inspect(ident)['State']['Pid']}/root/ran")
    if acknowledged:
        wait_until(ran.exists, "the program ran")
    # Those under way come to their end, those only created stay so, and none of them runs a second time.
    wait_until(lambda: not any(_runs(daemon, exec_id) for exec_id in daemon.inspect(ident)["ExecIDs"] or ()), "no exec runs")
    assert not ran.exists() or ran.read_text() == "once\n"
    ran.unlink(missing_ok=True)
    assert daemon.cli("docker", "exec", ident, "echo", "works").stdout == b"works\n"


def _runs(daemon: Daemon, exec_id: str) -> bool:
    status, found = daemon.request("GET", f"/exec/{exec_id}/json")
    return status == 200 and isinstance(found, dict) and found["Running"]


def restart(daemon: Daemon, ident: str) -> int:
    return daemon.request("POST", f"/containers/{ident}/restart?t=5")[0]


def restart_checked(daemon: Daemon, ident: str, acknowledged: bool, before: str) -> None:
    def settled() -> dict | None:
        state = daemon.inspect(ident)["State"]
        return state if state["Status"] in ("running", "exited") and state["Running"] == alive(state["Pid"] or -1) else None

    state = wait_until(settled, "the record is true")
    assert not acknowledged or (state["Running"] and str(state["Pid"]) != before)
    assert daemon.request("POST", f"/containers/{ident}/start")[0] in (204, 304)
    # Never two of them.
    state = daemon.wait_state(ident, "running")["State"]
    assert str(state["Pid"]) == before or not alive(int(before))


def update(daemon: Daemon, ident: str) -> int:
    memory = 128 << 20 if daemon.inspect(ident)["HostConfig"]["Memory"] == 64 << 20 else 64 << 20
    return daemon.request("POST", f"/containers/{ident}/update", {"Memory": memory, "MemorySwap": memory, "PidsLimit": 50})[0]


def update_checked(daemon: Daemon, ident: str, acknowledged: bool, before: str) -> None:
    def settled() -> int:
        said = daemon.inspect(ident)["HostConfig"]["Memory"]
        return said if daemon.get(f"/containers/{ident}/stats?stream=0&one-shot=1")["memory_stats"]["limit"] == said else 0

    found = wait_until(settled, "record and kernel say the same")
    assert found in (64 << 20, 128 << 20)
    assert not acknowledged or str(found) != before
    assert daemon.inspect(ident)["State"]["Status"] == "running"


def copy(daemon: Daemon, ident: str) -> int:
    return put(daemon, ident, "/tmp", iter([files(first=b"whole", second=b"x" * 100_000)]))[0]


def copy_checked(daemon: Daemon, ident: str, acknowledged: bool, before: str) -> None:
    for name, whole in (("first", b"whole"), ("second", b"x" * 100_000)):
        status, archive = get(daemon, ident, f"/tmp/{name}")
        assert (status == 200 and content(archive, name) == whole) or (status == 404 and not acknowledged)
    assert b".boxship-" not in daemon.cli("docker", "exec", ident, "ls", "-a", "/tmp").stdout
    daemon.cli("docker", "exec", ident, "rm", "-f", "/tmp/first", "/tmp/second")


def commit(daemon: Daemon, ident: str) -> int:
    Path(f"/proc/{daemon.inspect(ident)['State']['Pid']}/root/new").write_bytes(os.urandom(100_000))
    return call(daemon, "POST", "/commit", {"container": ident, "repo": "made"})[0]


def commit_checked(daemon: Daemon, ident: str, acknowledged: bool, before: str) -> None:
    wait_until(lambda: daemon.inspect(ident)["State"]["Status"] == "running", "it runs again")
    status, image = daemon.request("GET", "/images/made/json")
    assert status in (200, 404)
    assert not acknowledged or (status == 200 and image["Id"] != before)
    wait_until(lambda: not os.listdir(daemon.data_root / "content/ingest"), "nothing half is left")
    if status == 200:
        made = daemon.cli("docker", "run", "--rm", "--network", "none", "made", "wc", "-c", "/new")
        assert made.stdout.split()[0] == b"100000"


def pid(daemon: Daemon, ident: str) -> str:
    return str(daemon.inspect(ident)["State"]["Pid"])


def memory(daemon: Daemon, ident: str) -> str:
    return str(daemon.inspect(ident)["HostConfig"]["Memory"])


def image(daemon: Daemon, ident: str) -> str:
    status, found = daemon.request("GET", "/images/made/json")
    return found["Id"] if status == 200 and isinstance(found, dict) else ""


@pytest.mark.parametrize("victim", BOTH)
@pytest.mark.parametrize(
    ("act", "check", "state"),
    [
        pytest.param(exec_, exec_checked, pid, id="exec"),
        pytest.param(restart, restart_checked, pid, id="restart"),
        pytest.param(update, update_checked, memory, id="update"),
        pytest.param(copy, copy_checked, pid, id="cp"),
        pytest.param(commit, commit_checked, image, id="commit"),
    ],
)
def test_killed_at_every_step(own_daemon: Daemon, victim: str, act: Act, check: Check, state: Callable[[Daemon, str], str]):
    ident = run(own_daemon)
    kills = {step: _all_of(own_daemon, victim, ident, step, act, check, state) for step in STEPS}
    # Otherwise nothing was shown.
    assert sum(kills.values()), json.dumps(kills)
    assert own_daemon.request("DELETE", f"/containers/{ident}?force=1")[0] == 204


def _all_of(
    daemon: Daemon, victim: str, ident: str, step: str, act: Act, check: Check, state: Callable[[Daemon, str], str]
) -> int:
    """Kill the victim at every step of a kind; how many there were."""
    for number in range(1, MOST):
        before = state(daemon, ident)
        assert daemon.process is not None
        target = (
            daemon.process.pid if victim == "boxshipd" else wait_until(lambda: _supervisor(daemon), "a supervisor is there")
        )
        with killed_at(target, step, number):
            try:
                status = act(daemon, ident)
            except (OSError, ValueError, IndexError):
                status = 0
        died = _dead(target)
        if died and victim == "boxshipd":
            daemon.process.wait()
            daemon.start()
        try:
            check(daemon, ident, 200 <= status < 300, before)
        except AssertionError as error:
            raise AssertionError(
                f"{victim} killed at {step} {number}, answered {status}: {error}\n{daemon.log()[-3000:]}"
            ) from error
        if not died:
            return number - 1
    raise AssertionError(f"more than {MOST} times {step}")


def _supervisor(daemon: Daemon) -> int:
    """The supervisor's process; 0 where its successor hasn't taken its place yet."""
    try:
        found = daemon.supervisor_pid()
    except (IndexError, ValueError, OSError):
        return 0
    return 0 if _dead(found) else found


def _dead(target: int) -> bool:
    try:
        return Path(f"/proc/{target}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
