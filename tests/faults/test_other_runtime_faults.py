"""Other OCI runtimes that hang, fail, or lose their keepers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from support.daemon import Daemon, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

HANGING = """#!/bin/sh
case "$*" in *" create "*) echo $$ > {home}/hangs; exec sleep 1000;; esac
"""
FAILING = """#!/bin/sh
exit 3
"""


@pytest.fixture
def strange(own_daemon: Daemon) -> Daemon:
    """A daemon with runtimes that can't be trusted, told to it by a reload."""
    home = own_daemon.home
    for name, script in (("hanging", HANGING), ("failing", FAILING)):
        (home / name).write_text(script.format(home=home))
        (home / name).chmod(0o755)
    (home / "plain").write_text("no program")
    names = ("hanging", "failing", "plain", "missing")
    runtimes = {name: {"path": str(home / name)} for name in names} | {"runc": {"path": "runc"}}
    config = home / "daemon.json"
    config.write_text(json.dumps({"runtimes": runtimes}))
    own_daemon.terminate()
    own_daemon.flags = (*own_daemon.flags, "--config-file", str(config))
    own_daemon.start()
    return own_daemon


def create(daemon: Daemon, runtime: str, *command: str) -> str:
    body = {"Image": "busybox", "Cmd": list(command), "HostConfig": {"NetworkMode": "none", "Runtime": runtime}}
    status, answer = daemon.request("POST", "/containers/create", body)
    assert status == 201, answer
    return answer["Id"]


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ("failing", "failing create failed: exit status 3"),
        ("plain", "plain: permission denied"),
        ("missing", "missing: no such file or directory"),
    ],
)
def test_a_runtime_that_fails_is_named(strange, runtime, message):
    ident = create(strange, runtime, "true")
    status, answer = strange.request("POST", f"/containers/{ident}/start")
    assert status >= 400
    assert message in answer["message"]
    assert "oci" not in os.listdir(strange.data_root / "containers" / ident / "runtime")


def test_a_shim_that_dies_takes_a_hanging_runtime_along(strange):
    ident = create(strange, "hanging", "true")
    answers = []
    starting = threading.Thread(target=lambda: answers.append(strange.request("POST", f"/containers/{ident}/start")))
    starting.start()
    hangs = strange.home / "hangs"
    wait_until(lambda: hangs.exists() and hangs.read_text(), "the runtime hangs")
    runtime = int(hangs.read_text())
    worker = int(Path(f"/proc/{runtime}/stat").read_text().rpartition(")")[2].split()[1])
    keeper = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGKILL)
    starting.join(30)
    assert answers[0][0] >= 400
    assert "died" in answers[0][1]["message"]
    wait_until(lambda: not running(runtime), "the runtime's program is gone")
    assert "oci" not in os.listdir(strange.data_root / "containers" / ident / "runtime")
    assert strange.request("DELETE", f"/containers/{ident}")[0] == 204


@pytest.mark.skipif(shutil.which("runc") is None, reason="no runc")
def test_it_goes_on_without_daemon_and_supervisor_and_ends_with_its_own_status(strange):
    ident = create(strange, "runc", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done")
    assert strange.request("POST", f"/containers/{ident}/start")[0] == 204
    log = Path(strange.inspect(ident)["LogPath"])
    wait_until(lambda: log.stat().st_size, "it is ready")
    pid = strange.inspect(ident)["State"]["Pid"]
    supervisor = strange.supervisor_pid()
    strange.kill()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not running(supervisor), "the supervisor is gone")
    assert running(pid)
    strange.start()
    assert strange.inspect(ident)["State"]["Pid"] == pid
    assert strange.request("POST", f"/containers/{ident}/stop")[0] == 204
    assert strange.inspect(ident)["State"]["ExitCode"] == 5


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
