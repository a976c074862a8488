"""pause, unpause, update, stats and top, with Docker's command line and with ours: the same answers from both."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time

import pytest
from support.daemon import wait_until

CLIENTS = ("docker", "boxship")


@pytest.fixture(params=CLIENTS)
def client(request):
    return request.param


@pytest.fixture
def box(daemon):
    """A running container that does nothing."""
    ident = daemon.cli("docker", "run", "-d", "--network", "none", "busybox", "sleep", "1000").stdout.decode().strip()
    yield ident
    daemon.cli("docker", "rm", "-f", ident, code=None)


def out(daemon, client, *args, code=0):
    result = daemon.cli(client, *args, code=code)
    return (result.stdout + result.stderr).decode()


def test_pause_and_unpause(daemon, client, box):
    assert out(daemon, client, "pause", box) == f"{box}\n"
    assert "(Paused)" in out(daemon, client, "ps")
    assert box[:12] in out(daemon, client, "ps", "--filter", "status=paused")
    assert box[:12] not in out(daemon, client, "ps", "--filter", "status=running")
    assert f"Container {box} is already paused" in out(daemon, client, "pause", box, code=1)
    assert out(daemon, client, "info", "--format", "{{.ContainersPaused}}") == "1\n"
    assert out(daemon, client, "unpause", box) == f"{box}\n"
    assert f"Container {box} is not paused" in out(daemon, client, "unpause", box, code=1)


def test_several_at_once_and_one_that_is_not(daemon, client, box):
    said = daemon.cli(client, "pause", "nobody", box, code=1)
    assert said.stdout.decode() == f"{box}\n"
    assert "No such container: nobody" in said.stderr.decode()


def test_update(daemon, client, box):
    words = ("-m", "64m", "--memory-swap", "128m", "--cpus", "0.5", "--pids-limit", "9", "--restart", "on-failure:3")
    assert out(daemon, client, "update", *words, box) == f"{box}\n"
    host = daemon.inspect(box)["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 128 << 20, 500_000_000, 9)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert "Conflicting options" in out(daemon, client, "update", "--cpu-quota", "50000", box, code=1)
    assert out(daemon, client, "update", "--pids-limit", "-1", box) == f"{box}\n"
    assert "you must provide one or more flags" in out(daemon, client, "update", box, code=1)


def test_top(daemon, box):
    # Not its parent, which is another process once the shim has parked.
    both = [out(daemon, client, "top", box, "-o", "pid,nlwp,comm,args") for client in CLIENTS]
    assert both[0] == both[1]
    assert both[0].split() == ["PID", "NLWP", "COMMAND", "COMMAND", *both[0].split()[4:6], "sleep", "sleep", "1000"]
    for client in CLIENTS:
        assert "Couldn't find PID field in ps output" in out(daemon, client, "top", box, "-o", "comm", code=1)


def test_stats_at_once(daemon, box):
    shown = [json.loads(out(daemon, client, "stats", "--no-stream", "--format", "json", box)) for client in CLIENTS]
    assert shown[0].keys() == shown[1].keys()
    for name in ("Container", "ID", "Name", "NetIO", "BlockIO", "PIDs"):
        assert shown[0][name] == shown[1][name], name
    # What memory the kernel counts changes from one moment to the next, a machine's own size doesn't.
    assert shown[0]["MemUsage"].partition(" / ")[2] == shown[1]["MemUsage"].partition(" / ")[2]
    for each in shown:
        assert re.fullmatch(r"[\d.]+[KM]iB / [\d.]+GiB", each["MemUsage"])
        assert re.fullmatch(r"[\d.]+%", each["MemPerc"])
    assert re.fullmatch(r"[\d.]+%", shown[1]["CPUPerc"])
    assert shown[1]["PIDs"] == "1"


def test_stats_of_all_and_of_nobody(daemon, client, box):
    off = out(daemon, "docker", "create", "--network", "none", "busybox", "true").strip()
    try:
        assert off[:12] not in out(daemon, client, "stats", "--no-stream")
        assert off in out(daemon, client, "stats", "--no-stream", "--all", "--no-trunc")
        assert "No such container: nobody" in out(daemon, client, "stats", "--no-stream", "nobody", code=1)
    finally:
        daemon.cli("docker", "rm", off)


def test_a_busy_container_is_shown_as_busy(daemon, client):
    busy = ("run", "-d", "--network", "none", "--cpus", "0.5", "busybox", "sh", "-c", "while :; do :; done")
    ident = out(daemon, "docker", *busy).splitlines()[-1]
    try:
        shown = out(daemon, client, "stats", "--no-stream", "--format", "{{.CPUPerc}}", ident)
        assert 10 < float(shown.strip().rstrip("%")) < 65
    finally:
        daemon.cli("docker", "rm", "-f", ident)


def test_the_live_table_has_those_that_come_and_drops_those_that_go(daemon, client, box):
    """On a terminal, redrawn in place."""
    leader, follower = pty.openpty()
    process = daemon.popen(client, "stats", "--format", "{{.Name}}={{.PIDs}}", stdin=follower, stdout=follower, stderr=follower)
    os.close(follower)
    try:
        name = daemon.inspect(box)["Name"][1:]
        _read_until(leader, f"{name}=1")
        daemon.cli("docker", "run", "-d", "--network", "none", "--name", "late-comer", "busybox", "sleep", "1000")
        _read_until(leader, "late-comer=1")
        daemon.cli("docker", "rm", "-f", "late-comer")
        wait_until(lambda: "late-comer" not in _round(leader), "it has gone from the table")
        if client == "boxship":
            assert "\x1b[H" in _round(leader)
            assert "\x1b[J" in _round(leader)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def _read(leader: int) -> str:
    ready, _, _ = select.select([leader], [], [], 10)
    assert ready, "the table isn't drawn any more"
    return os.read(leader, 1 << 16).decode()


def _read_until(leader: int, wanted: str) -> None:
    text, deadline = "", time.monotonic() + 20
    while wanted not in text:
        assert time.monotonic() < deadline, text
        text += _read(leader)


def _round(leader: int) -> str:
    """What is drawn in two rounds, so that one of them is whole."""
    return _read(leader) + _read(leader)


def test_stats_ends_with_the_last_container_that_was_asked_for(daemon, box):
    process = daemon.popen("boxship", "stats", box, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"CONTAINER ID")
    daemon.cli("docker", "rm", "-f", box)
    assert process.wait(20) == 0
    process.stdout.close()
