"""Clients that go away at random moments, by the thousand: nothing of them stays, and the container doesn't notice."""

from __future__ import annotations

import json
import os
import random
import re
import select
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until

pytestmark = needs_root

SIDE_BY_SIDE = 8

THREADS = 2 * (os.cpu_count() or 1) + 12
"""What the pools of a process may have between them; they grow to their size when there is need, and stay."""

UPGRADE = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
WEBSOCKET = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


class Footprint:
    """What our processes have: of the lasting ones descriptors, threads and memory, and how many there are of the others."""

    def __init__(self, daemon: Daemon, container: str) -> None:
        assert daemon.process is not None
        self.lasting = {
            "boxshipd": daemon.process.pid,
            "supervisor": daemon.supervisor_pid(),
            "zygote": daemon.zygote_pid(),
            "shim": daemon.shim_pid(container),
        }
        self.processes = len(daemon.pids()) - len(inside(daemon, container))
        self.descriptors = {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in self.lasting.items()}
        self.threads = {name: len(os.listdir(f"/proc/{pid}/task")) for name, pid in self.lasting.items()}
        self.memory = {name: private_memory(pid) for name, pid in self.lasting.items()}

    def is_no_more_than(self, other: Footprint) -> bool:
        """Of memory, and of the threads of pools, only what many rounds add says anything."""
        return (
            self.lasting == other.lasting
            and self.processes <= other.processes
            and all(count <= other.descriptors[name] for name, count in self.descriptors.items())
            and all(count <= THREADS for count in self.threads.values())
        )

    def __repr__(self) -> str:
        return f"{self.processes} processes, descriptors {self.descriptors}, threads {self.threads}, KiB {self.memory}"


def inside(daemon: Daemon, container: str) -> set[int]:
    """The container's processes."""
    namespace = os.readlink(f"/proc/{daemon.inspect(container)['State']['Pid']}/ns/pid")
    found = set()
    for pid in daemon.pids():
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/pid") == namespace:
                found.add(pid)
    return found


def private_memory(pid: int) -> int:
    """A process' own memory, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.M))


@pytest.fixture
def box(own_daemon: Daemon) -> str:
    """A container that writes a line whenever it reads one, and every now and then besides."""
    script = "(while :; do echo tick; sleep 0.2; done) & exec cat"
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
    status, answer = own_daemon.request("POST", "/containers/create", body)
    assert status == 201, answer
    assert isinstance(answer, dict)
    assert own_daemon.request("POST", f"/containers/{answer['Id']}/start")[0] == 204
    return answer["Id"]


def connect(daemon: Daemon, request: str, body: bytes = b"") -> socket.socket:
    """Send a request, or the beginning of one."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(30)
    sock.connect(str(daemon.socket))
    sock.sendall(request.encode() + body)
    return sock


def drop(sock: socket.socket, chance: random.Random) -> None:
    """Close a connection at once, after a moment, when its answer begins, or after some of what comes."""
    with sock:
        match chance.randrange(10):
            case 0:
                pass
            case 1 | 2 | 3:
                select.select([sock], [], [], chance.random() * 0.02)
            case 4 | 5 | 6:
                sock.recv(1)
            case _:
                for _ in range(chance.randrange(1, 6)):
                    if not select.select([sock], [], [], 0.01)[0] or not sock.recv(chance.choice((1, 100, 65536))):
                        break


EXECS: tuple[dict[str, object], ...] = (
    {"Cmd": ["cat"], "AttachStdin": True},
    {"Cmd": ["true"]},
    {"Cmd": ["sh", "-c", "echo one; usleep 5000; echo two >&2; exit 3"]},
    {"Cmd": ["head", "-c", "300000", "/dev/zero"]},
    {"Cmd": ["sh", "-c", "echo on a terminal; usleep 5000; echo two"], "AttachStdin": True, "Tty": True},
)


def drop_exec(daemon: Daemon, box: str, chance: random.Random) -> None:
    config = chance.choice(EXECS)
    status, body = daemon.request("POST", f"/containers/{box}/exec", {"AttachStdout": True, "AttachStderr": True, **config})
    assert status == 201, body
    assert isinstance(body, dict)
    options = json.dumps({"Detach": False, "Tty": config.get("Tty", False)}).encode()
    upgrade = chance.choice((UPGRADE, WEBSOCKET, ""))
    method = "GET" if upgrade == WEBSOCKET else "POST"
    path = f"/exec/{body['Id']}/start" + ("/ws" if upgrade == WEBSOCKET else "")
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{upgrade}Content-Type: application/json\r\nContent-Length: {len(options)}\r\n\r\n"
    if chance.randrange(20) == 0:
        # A request of which the end is missing.
        connect(daemon, head, options[:5]).close()
        return
    sock = connect(daemon, head, b"" if upgrade == WEBSOCKET else options)
    if config.get("AttachStdin") and chance.random() < 0.5:
        with suppress(BrokenPipeError):
            sock.sendall(b"some input\n")
    drop(sock, chance)


def drop_others(daemon: Daemon, box: str, chance: random.Random) -> None:
    method, path = chance.choice(
        (
            ("POST", f"/containers/{box}/attach?stream=1&stdin=1&stdout=1&stderr=1"),
            ("POST", f"/containers/{box}/attach?stream=1&stdout=1&logs=1"),
            ("GET", f"/containers/{box}/attach/ws?stream=1&stdout=1"),
            ("GET", f"/containers/{box}/logs?follow=1&stdout=1&stderr=1"),
            ("GET", f"/containers/{box}/logs?follow=1&stdout=1&tail=3&timestamps=1"),
            ("GET", f"/containers/{box}/stats?stream=1"),
            ("GET", f"/containers/{box}/stats?stream=0"),
            ("GET", f"/containers/{box}/wait?condition=removed"),
            ("GET", "/events?since=0"),
            ("GET", "/events"),
        )
    )
    if path.endswith("removed"):
        method = "POST"
    upgrade = UPGRADE if method == "POST" and "attach" in path else WEBSOCKET if "/ws?" in path else ""
    drop(connect(daemon, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n"), chance)


def rounds(act: Callable[[Daemon, str, random.Random], None], daemon: Daemon, box: str, count: int, seed: int) -> None:
    """``act`` so often, some side by side."""

    def some(number: int) -> None:
        chance = random.Random(seed * SIDE_BY_SIDE + number)
        for _ in range(number, count, SIDE_BY_SIDE):
            act(daemon, box, chance)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        list(pool.map(some, range(SIDE_BY_SIDE)))


def served(daemon: Daemon, box: str) -> bool:
    """True once nobody is connected, and of the execs that were begun none is on its way or has its program running."""
    # The listening socket, and no accepted one.
    if os.listdir(daemon.exec_root / "execs") or Path("/proc/net/unix").read_text().count(f"{daemon.socket}\n") > 1:
        return False
    # The container's first process, its loop and what that waits for.
    return len(daemon.get(f"/containers/{box}/top")["Processes"]) <= 3


def settled(daemon: Daemon, box: str) -> Footprint:
    """The footprint once everybody has been served, and the shims that wait a moment for further execs have gone."""
    wait_until(lambda: served(daemon, box), "nobody is being served", 30)
    wait_until(lambda: len(daemon.children(daemon.zygote_pid())) <= 3, "shims that have served are gone")
    return Footprint(daemon, box)


@pytest.mark.parametrize(
    ("act", "batches", "size", "growth"), [(drop_exec, 4, 500, 12288), (drop_others, 2, 500, 4096)], ids=["execs", "streams"]
)
def test_who_drops_leaves_nothing(
    own_daemon: Daemon,
    box: str,
    act: Callable[[Daemon, str, random.Random], None],
    batches: int,
    size: int,
    growth: int,
) -> None:
    """``growth`` is what may be added to a process' memory, in KiB: an exec is remembered after its end, in 5 KiB or so."""
    daemon = own_daemon
    rounds(act, daemon, box, 200, seed=0)
    before = settled(daemon, box)
    for batch in range(batches):
        rounds(act, daemon, box, size, seed=batch + 1)
        wait_until(lambda: served(daemon, box), "nobody is being served", 30)
    after = settled(daemon, box)
    wait_until(lambda: Footprint(daemon, box).is_no_more_than(before), f"it is as before, {before}, and not {after}")
    grown = {name: memory - before.memory[name] for name, memory in after.memory.items()}
    assert max(grown.values()) < growth, grown
    assert "unexpectedly" not in daemon.log()
    # The container is as it was.
    assert daemon.inspect(box)["State"]["Running"]
    assert daemon.cli("docker", "exec", "-i", box, "cat", stdin=b"still here\n").stdout == b"still here\n"
    path = f"/containers/{box}/attach?stream=1&stdin=1&stdout=1"
    with connect(daemon, f"POST {path} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n") as attached:
        attached.sendall(b"still served\n")
        got = b""
        while b"still served\n" not in got:
            got += attached.recv(4096)
