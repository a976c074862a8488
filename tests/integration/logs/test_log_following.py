"""Followers of a log and attached clients, through everything that happens meanwhile: not a line lost, not one twice."""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
from pathlib import Path

import pytest
from boxship import Client
from conftest import needs_root
from support.daemon import Daemon, wait_until

pytestmark = needs_root

NUMBERS = "i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); [ $((i%{burst})) = 0 ] && usleep 20000; done"


def numbers(count: int, burst: int = 100) -> str:
    """A script that writes numbered lines, resting after every burst."""
    return NUMBERS.format(count=count, burst=burst)


def expected(count: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(count))


def start(daemon: Daemon, *arguments: str) -> str:
    return daemon.cli("docker", "run", "-d", *arguments).stdout.decode().strip()


@pytest.mark.parametrize(("driver", "size"), [("json-file", "100k"), ("local", "15k")])
def test_ten_followers_over_rotations_and_deaths_of_the_daemon(
    own_daemon: Daemon, tmp_path: Path, driver: str, size: str
) -> None:
    daemon = own_daemon
    options = [f"--log-driver={driver}", f"--log-opt=max-size={size}", "--log-opt=max-file=30", "--log-opt=compress=true"]
    ident = start(daemon, *options, "busybox", "sh", "-c", numbers(8000))
    outputs = [tmp_path / str(number) for number in range(10)]
    followers = []
    for path in outputs:
        with path.open("wb") as file:
            followers.append(daemon.popen("boxship", "logs", "-f", ident, stdout=file, stderr=file))
    log = next(Path(daemon.data_root, "containers", ident).rglob("*.log"))
    wait_until(lambda: all(path.stat().st_size for path in outputs), "every follower has begun")
    wait_until(lambda: Path(f"{log}.1.gz").exists(), "the log was rotated, and compressed")
    daemon.kill()
    wait_until(lambda: Path(f"{log}.3.gz").exists(), "and again while nobody serves it")
    daemon.start()
    wait_until(lambda: Path(f"{log}.4.gz").exists(), "and again")
    # The polite way: connections are closed, and containers go on.
    daemon.terminate()
    daemon.start()
    for follower, path in zip(followers, outputs, strict=True):
        assert follower.wait(60) == 0
        assert path.read_bytes() == expected(8000)


def test_a_follower_goes_on_over_restarts_of_the_container(daemon: Daemon) -> None:
    script = "echo begin; echo err >&2; trap 'exit 3' TERM; n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) >/n; " \
        "if [ $n = 0 ]; then exit 1; elif [ $n -lt 3 ]; then while :; do usleep 10000; done; fi; echo over"  # fmt: skip
    ident = start(daemon, "--restart=on-failure", "busybox", "sh", "-c", script)
    follower = daemon.popen("boxship", "logs", "-f", ident, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for run in (2, 3):
        # The first end is its own, and the restart policy's affair; then somebody restarts it.
        wait_until(lambda run=run: daemon.cli("docker", "logs", ident).stdout.count(b"begin") == run, f"run {run} has begun")
        daemon.cli("docker", "restart", "-t", "5", ident)
    output, errors = follower.communicate(timeout=30)
    assert output == b"begin\n" * 4 + b"over\n"
    assert errors == b"err\n" * 4
    daemon.cli("docker", "rm", "-f", ident)


def test_a_follower_of_a_single_file_that_is_truncated(daemon: Daemon) -> None:
    options = ["--log-opt=max-size=20k", "--log-opt=max-file=1"]
    ident = start(daemon, *options, "busybox", "sh", "-c", f"read start; {numbers(2000, 20)}")
    # Rotating takes what a follower hasn't read yet: it is given the time to.
    daemon.cli("docker", "rm", "-f", ident)
    ident = start(daemon, *options, "-i", "busybox", "sh", "-c", f"read start; {numbers(2000, 20)}")
    follower = daemon.popen("boxship", "logs", "-f", ident, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    daemon.popen("docker", "attach", ident, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL).communicate(b"\n", 30)
    output, errors = follower.communicate(timeout=30)
    lines = output.splitlines()
    assert errors == b""
    assert len(set(lines)) == len(lines)
    assert lines[-1] == b"line 1999"
    daemon.cli("docker", "rm", "-f", ident)


def test_removal_ends_followers(daemon: Daemon) -> None:
    ident = start(daemon, "busybox", "sh", "-c", "echo here; sleep 1000")
    follower = daemon.popen("boxship", "logs", "-f", ident, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert follower.stdout.readline() == b"here\n"
    daemon.cli("docker", "rm", "-f", ident)
    assert follower.communicate(timeout=20) == (b"", b"")
    assert follower.returncode == 0


def attach(daemon: Daemon, ident: str, query: str) -> socket.socket:
    """A hijacked connection at a container's streams, past its head."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(daemon.socket))
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    sock.sendall(f"POST /containers/{ident}/attach?{query} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert b" 101 " in head
    return sock


def frames(sock: socket.socket) -> bytes:
    """All that comes, its frames taken off."""
    with sock.makefile("rb") as file:
        payload = []
        while head := file.read(8):
            assert head[0] in (1, 2)
            payload.append(file.read(int.from_bytes(head[4:], "big")))
    sock.close()
    return b"".join(payload)


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_attaching_with_logs_to_a_container_that_writes(daemon: Daemon, driver: str) -> None:
    """Twenty clients come one after the other; each gets every line once, and the middle of a line as it is."""
    script = f"printf 'beg'; usleep 100000; echo in; {numbers(3000, 50)}"
    options = [f"--log-driver={driver}", "--log-opt=max-size=60k", "--log-opt=max-file=50"]
    ident = start(daemon, *options, "busybox", "sh", "-c", script)
    log = next(Path(daemon.data_root, "containers", ident).rglob("*.log"))
    clients = []
    for _ in range(20):
        size = log.stat().st_size
        clients.append(attach(daemon, ident, "logs=1&stream=1&stdout=1&stderr=1"))
        wait_until(lambda size=size: log.stat().st_size != size or not daemon.inspect(ident)["State"]["Running"], "it writes")
    for client in clients:
        assert frames(client) == b"begin\n" + expected(3000)
    daemon.cli("docker", "rm", "-f", ident)


def test_a_hundred_attached_clients_of_which_some_are_dead(daemon: Daemon) -> None:
    ident = start(daemon, "-i", "busybox", "sh", "-c", f"read start; {numbers(3000, 200)}")
    query = "stream=1&stdout=1&stderr=1"
    idle = [attach(daemon, ident, query) for _ in range(5)]
    clients = [attach(daemon, ident, query) for _ in range(100)]
    starter = attach(daemon, ident, "stream=1&stdin=1")
    starter.sendall(b"\n")
    starter.close()
    # Those that read nothing have room for as much as this container writes; those that die cost nobody anything.
    for client in clients[:20]:
        client.close()
    for client in clients[20:]:
        assert frames(client) == expected(3000)
    for client in idle:
        assert frames(client) == expected(3000)
    assert daemon.cli("docker", "logs", ident).stdout == expected(3000)
    daemon.cli("docker", "rm", "-f", ident)


def test_the_websocket_of_events(daemon: Daemon) -> None:
    from boxship.websocket import Handshake, WebSocket

    with Client(daemon.host) as client:
        handshake = Handshake()
        query = {"filters": '{"type":["container"],"event":["create","die"]}'}
        stream, received, answer = client.api.upgrade("/events/ws", query, handshake.headers)
        with WebSocket(stream, received, handshake.check(answer)) as websocket:
            ident = start(daemon, "--name=evented", "busybox", "true")
            for action in ("create", "die"):
                event = websocket.read().decode()
                assert f'"Action":"{action}"' in event
                assert ident in event
    daemon.wait_state(ident, "exited")
    daemon.cli("docker", "rm", "-f", ident)


def test_a_thousand_followers_leave_nothing_behind(own_daemon: Daemon) -> None:
    daemon = own_daemon
    ident = start(daemon, "-i", "busybox", "sh", "-c", "echo first; read line; echo $line; exec sleep 1000")
    assert daemon.process is not None
    proc = Path(f"/proc/{daemon.process.pid}")

    def descriptors() -> int:
        return len(os.listdir(proc / "fd"))

    def memory() -> int:
        return int(re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())[1])

    def round_(count: int) -> None:
        socks = []
        for _ in range(count):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(60)
            sock.connect(str(daemon.socket))
            sock.sendall(f"GET /containers/{ident}/logs?stdout=1&follow=1 HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            socks.append(sock)
        for sock in socks:
            answer = b""
            while b"first\n" not in answer:
                answer += sock.recv(4096)
        assert descriptors() > count
        for sock in socks:
            sock.close()

    before = descriptors()
    round_(100)
    wait_until(lambda: descriptors() <= before + 3, "descriptors are given back")
    round_(1000)
    wait_until(lambda: descriptors() <= before + 3, "descriptors are given back")
    warm = memory()
    round_(1000)
    wait_until(lambda: descriptors() <= before + 3, "descriptors are given back")
    assert memory() < warm + 8000
    daemon.cli("docker", "kill", ident)


def test_followers_are_not_bound_by_the_soft_limit_of_descriptors(own_daemon: Daemon) -> None:
    daemon = own_daemon
    ident = start(daemon, "busybox", "sh", "-c", "echo first; exec sleep 1000")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    daemon.kill()
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        daemon.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    followers = [socket.socket(socket.AF_UNIX) for _ in range(200)]
    for follower in followers:
        follower.settimeout(30)
        follower.connect(str(daemon.socket))
        follower.sendall(f"GET /containers/{ident}/logs?stdout=1&follow=1 HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    for follower in followers:
        answer = b""
        while b"first\n" not in answer:
            piece = follower.recv(4096)
            assert piece
            answer += piece
    for follower in followers:
        follower.close()
    daemon.cli("docker", "kill", ident)
