"""Builds whose client goes, whose disk fills up, of which there are many at once, and whose daemon ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.build_api import SessionClient, api, build, build_ours, dockerfile
from support.daemon import Daemon, wait_until
from support.daemons import on_small_disk

pytestmark = needs_root

MIB = 1 << 20


def left(daemon: Daemon) -> list[str]:
    """What of a build's is left: files of contexts that are open, directories, unfinished layers."""
    assert daemon.process is not None
    found = []
    for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = os.readlink(descriptor)
            if "/build/scratch/" in target:
                found.append(target)
    found += [str(path) for path in (daemon.data_root / "build" / "scratch").iterdir()]
    found += [
        str(path) for path in (daemon.data_root / "snapshots").iterdir() if path.name.startswith(("unpacking", "removing"))
    ]
    found += [str(path) for path in (daemon.data_root / "content" / "ingest").iterdir()]
    return found


def nothing_is_left(daemon: Daemon) -> None:
    wait_until(lambda: not left(daemon), f"nothing is left of the build: {left(daemon)}")


def upload(daemon: Daemon, body: bytes, declared: int) -> socket.socket:
    """A build whose context stops in the middle."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(daemon.socket))
    head = f"POST /build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {declared}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_a_client_that_goes_in_the_middle_of_its_context_leaves_nothing(daemon):
    body = dockerfile("FROM busybox\nCOPY big /\n", big=bytes(8 * MIB))
    connection = upload(daemon, body[: 4 * MIB], len(body))
    wait_until(lambda: any("/build/scratch/" in each for each in left(daemon)), "the context is being kept")
    connection.close()
    nothing_is_left(daemon)
    answer = asyncio.run(build(daemon, body))
    assert answer.image


async def test_a_session_that_breaks_fails_its_build(daemon):
    class Leaving(SessionClient):
        async def serve(self, socket):
            await socket.receive()
            await socket.close()

    answer = await build_ours(daemon, {"text": "FROM busybox\nCOPY a /\n"}, client=Leaving({}))
    assert "the build's client went away" in answer.error["message"]
    nothing_is_left(daemon)


async def test_sixty_four_builds_at_once_wait_for_one_another(daemon):
    begun = time.monotonic()
    answers = await asyncio.gather(
        *(
            build(daemon, dockerfile(f"FROM busybox\nCOPY a /\nRUN echo {number} > /n\n", a=str(number % 4)), q=1)
            for number in range(64)
        )
    )
    assert time.monotonic() - begun < 100
    assert len({answer.image if "aux" in answer.documents[-1] else answer.text for answer in answers}) == 64
    nothing_is_left(daemon)


async def test_a_client_that_does_not_read_holds_up_its_own_build_only(daemon):
    body = dockerfile("FROM busybox\nRUN yes | head -c 100000000\n")
    head = (
        f"POST /build?nocache=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(daemon.socket))
    connection.sendall(head.encode() + body)
    assert (await build(daemon, dockerfile("FROM busybox\nRUN echo other\n"))).image
    connection.close()
    await asyncio.to_thread(nothing_is_left, daemon)


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose disk is small."""
    with on_small_disk(48) as daemon:
        yield daemon


async def test_a_full_disk_fails_a_build_and_nothing_of_it_stays(small):
    cases = {
        "context": ("FROM busybox\nCOPY big /\n", 60),
        "copy": ("FROM busybox\nCOPY big /a\nCOPY big /b\n", 20),
        "run": ("FROM busybox\nRUN cat /dev/urandom > /x\n", 0),
    }
    for name, (text, size) in cases.items():
        answer = await build(small, dockerfile(text, big=os.urandom(size * MIB)))
        assert "error" in answer.documents[-1] or "message" in answer.documents[-1], (name, answer.documents[-1])
        await asyncio.to_thread(nothing_is_left, small)
        small.cli("docker", "builder", "prune", "-af")
        assert (await build(small, dockerfile("FROM busybox\nRUN echo fits > /x\n"))).image, name


def test_a_daemon_that_ends_ends_its_builds(own_daemon):
    connection = upload(own_daemon, body := dockerfile("FROM busybox\nRUN echo begun; exec sleep 65432\n"), len(body))
    answer = b""
    while b"begun" not in answer:
        answer += connection.recv(65536)
    own_daemon.terminate()
    connection.close()
    assert not running("65432")
    own_daemon.start()


def test_a_daemon_that_is_killed_leaves_nothing_of_its_builds(own_daemon):
    connection = upload(own_daemon, body := dockerfile("FROM busybox\nRUN echo begun; exec sleep 76543\n"), len(body))
    answer = b""
    while b"begun" not in answer:
        answer += connection.recv(65536)
    own_daemon.kill()
    connection.close()
    own_daemon.start()
    wait_until(lambda: not running("76543"), "the command is gone")
    nothing_is_left(own_daemon)
    again = asyncio.run(build(own_daemon, dockerfile("FROM busybox\nRUN echo again\n")))
    assert again.image


def running(seconds: str) -> bool:
    """Whether a command sleeps so long."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if file.read() == f"sleep\0{seconds}\0".encode():
                return True
    return False


async def test_a_request_that_is_given_up_is_no_error_of_the_daemon_s(daemon):
    body = dockerfile("FROM busybox\nRUN echo begun; sleep 1000\n")
    async with api(daemon) as session, session.post("/build?nocache=1", data=body) as answer:
        text = b""
        while b"begun" not in text:
            text += await answer.content.readany()
        answer.close()
    await asyncio.to_thread(nothing_is_left, daemon)
    assert "Traceback" not in daemon.log()
