"""Copies and commits through kills and full disks: whole or not there, the error named, nothing left over."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import files
from support.archiving import call, content, get, holders, put
from support.daemon import Daemon, wait_until
from support.daemons import on_small_disk, used
from support.victims import kill

pytestmark = needs_root


def created(daemon: Daemon, *command: str) -> str:
    return (
        daemon.cli("docker", "create", "--network", "none", "--stop-signal", "KILL", "busybox", *command)
        .stdout.decode()
        .strip()
    )


class Upload(threading.Thread):
    """A PUT that stops in the middle until it is told to go on."""

    def __init__(self, daemon: Daemon, container: str) -> None:
        super().__init__()
        self.daemon_under_test = daemon
        self.container = container
        self.half = threading.Event()
        self.rest = threading.Event()
        self.result: tuple[int, str] | None = None

    def _archive(self):
        archive = files(first=b"whole", big=b"x" * 3_000_000)
        yield archive[:2_000_000]
        self.half.set()
        self.rest.wait(30)
        yield archive[2_000_000:]

    def run(self) -> None:
        try:
            self.result = put(self.daemon_under_test, self.container, "/tmp", self._archive())
        except OSError as error:
            self.result = (0, str(error))


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "zygote", "holder"])
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_killed_in_the_middle_of_a_copy(own_daemon, victim, state):
    id_ = created(own_daemon, "sleep", "1000")
    if state == "running":
        own_daemon.cli("docker", "start", id_)
    upload = Upload(own_daemon, id_)
    upload.start()
    assert upload.half.wait(10)
    written = own_daemon.data_root / f"containers/{id_}/upper/tmp/first"
    wait_until(written.exists, "the first file has been written")
    held = holders(id_)
    assert bool(held) == (state == "stopped")
    if victim == "holder":
        for pid in held:
            # The one dies with the other.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        kill(own_daemon, victim)
    upload.rest.set()
    upload.join()
    if victim == "boxshipd":
        assert get(own_daemon, id_, "/tmp/big")[0] == 404
    else:
        assert upload.result == (200, "")
        assert content(get(own_daemon, id_, "/tmp/big")[1], "big") == b"x" * 3_000_000
    wait_until(lambda: not holders(id_), "no holder is left")
    if state == "stopped":
        own_daemon.cli("docker", "start", id_)
    assert own_daemon.cli("docker", "exec", id_, "cat", "/tmp/first").stdout == b"whole"
    assert b".boxship-" not in own_daemon.cli("docker", "exec", id_, "ls", "-a", "/tmp").stdout


@pytest.mark.parametrize("victim", ["boxshipd", "supervisor", "zygote"])
def test_killed_in_the_middle_of_a_commit(own_daemon, victim):
    id_ = created(own_daemon, "sleep", "1000")
    put(own_daemon, id_, "/", files(**{f"f{n}": os.urandom(4 << 20) for n in range(8)}))
    own_daemon.cli("docker", "start", id_)
    results: list[int] = []

    def commit() -> None:
        try:
            results.append(call(own_daemon, "POST", "/commit", {"container": id_, "repo": "half"})[0])
        except OSError:
            results.append(0)

    committing = threading.Thread(target=commit)
    committing.start()
    ingest = own_daemon.data_root / "content/ingest"
    wait_until(lambda: os.listdir(ingest) or not committing.is_alive(), "the layer is being written")
    kill(own_daemon, victim)
    committing.join()
    wait_until(lambda: own_daemon.inspect(id_)["State"]["Status"] == "running", "it runs again")
    status, _ = own_daemon.request("GET", "/images/half/json")
    assert (status == 200) == (results == [201])
    assert not os.listdir(ingest)
    named = set(os.listdir(own_daemon.data_root / "content/blobs/sha256"))
    images = own_daemon.get("/images/json")
    # Three for an image of one layer, and another layer's for the committed one.
    assert len(named) <= 3 * len(images)
    status, body, _ = call(own_daemon, "POST", "/commit", {"container": id_, "repo": "whole"})
    assert status == 201, body
    assert (
        own_daemon.cli("docker", "run", "--rm", "--network", "none", "whole", "wc", "-c", "/f7").stdout.split()[0] == b"4194304"
    )


@pytest.fixture
def small():
    """A daemon whose disk is a small tmpfs."""
    with on_small_disk(48) as daemon:
        yield daemon


def test_a_full_disk(small):
    id_ = created(small, "sleep", "1000")
    before = used(small.data_root)
    status, message = put(small, id_, "/tmp", files(small=b"fits", big=bytes(1) * (100 << 20)))
    assert (status, message) == (500, "copy big to /tmp: no space left on device")
    assert get(small, id_, "/tmp/big")[0] == 404
    assert content(get(small, id_, "/tmp/small")[1], "small") == b"fits"
    assert used(small.data_root) - before < 200_000
    assert put(small, id_, "/", files(random=os.urandom(20 << 20)))[0] == 200
    before = used(small.data_root)
    status, body, _ = call(small, "POST", "/commit", {"container": id_, "repo": "toobig"})
    message = json.loads(body)["message"]
    assert status == 500, message
    assert f"commit container {id_}" in message
    assert "no space left on device" in message
    assert small.request("GET", "/images/toobig/json")[0] == 404
    assert not os.listdir(small.data_root / "content/ingest")
    assert used(small.data_root) - before < 200_000
    small.cli("docker", "start", id_)
    assert small.cli("docker", "exec", id_, "wc", "-c", "/random").stdout.split()[0] == str(20 << 20).encode()


def test_a_holder_that_nobody_holds_on_to_is_gone(own_daemon):
    id_ = created(own_daemon, "true")
    upload = Upload(own_daemon, id_)
    upload.start()
    assert upload.half.wait(10)
    wait_until(lambda: holders(id_), "the root is held")
    supervisor = own_daemon.supervisor_pid()
    own_daemon.kill()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: not holders(id_), "the holder ended with whom it was for")
    upload.rest.set()
    upload.join()
    assert not [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if own_daemon.name in line]
    own_daemon.start()
    own_daemon.cli("docker", "start", "-a", id_)
