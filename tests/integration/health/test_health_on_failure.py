"""What becomes of a container that is found unhealthy, and the events of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from urllib.parse import quote

import pytest
from support.daemon import wait_until
from support.health import becomes, create, health, remove, start

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")

KEY = "io.boxship.health-on-failure"
TRAP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done")


def ill(daemon, action, policy="no", **fields):
    """A container that is unhealthy as soon as it has the file /ill, and is then treated by ``action``."""
    host = {"Annotations": {KEY: action}, "RestartPolicy": {"Name": policy}}
    return start(daemon, create(daemon, "CMD", "test", "!", "-e", "/ill", command=TRAP, retries=1, HostConfig=host, **fields))


def fall_ill(daemon, ident):
    becomes(daemon, ident, "healthy")
    daemon.cli("docker", "exec", ident, "touch", "/ill")


def events(daemon, ident, *actions):
    """What has happened to a container so far."""
    filters = quote(json.dumps({"container": [ident], "event": list(actions)}))
    head = f"GET /events?since=1&until={time.time():.9f}&filters={filters} HTTP/1.0\r\nHost: x\r\n\r\n"
    lines = daemon.raw(head.encode()).partition(b"\r\n\r\n")[2].splitlines()
    return [(json.loads(line)["Action"], json.loads(line)["Actor"]["Attributes"]) for line in lines if line.strip()]


def test_none_leaves_it_be(daemon):
    ident = ill(daemon, "none")
    fall_ill(daemon, ident)
    becomes(daemon, ident, "unhealthy")
    wait_until(lambda: health(daemon, ident)["FailingStreak"] > 3, "it fails on")
    assert daemon.inspect(ident)["State"]["Running"]
    remove(daemon, ident)


def test_kill_leaves_what_follows_to_the_restart_policy(daemon):
    ident, policy = ill(daemon, "kill"), ill(daemon, "kill", "on-failure")
    for each in (ident, policy):
        fall_ill(daemon, each)
    state = daemon.wait_state(ident, "exited")["State"]
    assert (state["ExitCode"], state["Health"]["Status"]) == (137, "unhealthy")
    wait_until(lambda: daemon.inspect(policy)["RestartCount"] >= 1, "the policy has started it again")
    remove(daemon, ident, policy)


def test_restart_starts_it_again_whatever_its_policy_is(daemon):
    ident = ill(daemon, "restart")
    fall_ill(daemon, ident)
    wait_until(lambda: daemon.inspect(ident)["RestartCount"] == 1, "it was started again")
    daemon.cli("docker", "exec", daemon.wait_state(ident, "running")["Id"], "rm", "/ill", code=None)
    wait_until(lambda: _well(daemon, ident), "it is well again")
    told = [action for action, _ in events(daemon, ident, "kill", "die", "start", "health_status", "stop")]
    assert told[:4] == ["start", "health_status: healthy", "health_status: unhealthy", "kill"]
    assert told[4:6] == ["die", "start"]
    assert "stop" not in told
    died = next(attributes for action, attributes in events(daemon, ident, "die"))
    assert died["exitCode"] == "0"
    remove(daemon, ident)


def _well(daemon, ident):
    daemon.cli("docker", "exec", ident, "rm", "-f", "/ill", code=None)
    state = daemon.inspect(ident)["State"]
    return state["Status"] == "running" and state["Health"]["Status"] == "healthy"


def test_stop_stops_it_as_a_client_does(daemon):
    ident = ill(daemon, "stop", "unless-stopped")
    fall_ill(daemon, ident)
    assert daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 0
    assert daemon.inspect(ident)["RestartCount"] == 0
    assert [action for action, _ in events(daemon, ident, "kill", "die", "stop")] == ["kill", "die", "stop"]
    remove(daemon, ident)


def test_a_label_says_it_too_and_nonsense_is_refused(daemon):
    host = {"NetworkMode": "none"}
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host, "Labels": {KEY: "explode"}}
    status, answer = daemon.request("POST", "/containers/create", body)
    assert status == 400
    assert "use one of 'none', 'kill', 'restart', or 'stop'" in answer["message"]
    ident = create(daemon, "CMD", "false", retries=1, Labels={KEY: "kill"})
    start(daemon, ident)
    assert daemon.wait_state(ident, "exited")["State"]["ExitCode"] == 137
    remove(daemon, ident)


def test_a_restarted_container_begins_anew_and_keeps_its_log(daemon):
    ident = start(daemon, create(daemon, "CMD", "true", interval=300))
    before = becomes(daemon, ident, "healthy")["Log"][0]
    daemon.cli("docker", "restart", "-t", "0", ident)
    now = health(daemon, ident)
    assert (now["Status"], now["FailingStreak"]) == ("starting", 0)
    assert before in now["Log"]
    becomes(daemon, ident, "healthy")
    remove(daemon, ident)


def test_probes_are_execs_to_those_who_listen(daemon):
    ident = create(daemon, "CMD-SHELL", "exit 3")
    with daemon.popen(
        *("docker", "events", "--filter", f"container={ident}", "--format", "{{json .}}"), stdout=subprocess.PIPE
    ) as listener:
        start(daemon, ident)
        seen = {}
        for line in listener.stdout:
            event = json.loads(line)
            seen[event["Action"]] = event["Actor"]["Attributes"]
            if event["Action"] == "exec_die":
                break
        listener.terminate()
        listener.stdout.close()
    assert seen["exec_create: /bin/sh -c exit 3"]["execID"] == seen["exec_start: /bin/sh -c exit 3"]["execID"]
    assert seen["exec_die"]["exitCode"] == "3"
    remove(daemon, ident)
