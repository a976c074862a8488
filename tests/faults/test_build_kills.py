"""kill -9 of the daemon in the middle of each kind of step of a build, and disks that are full.

What is there afterwards is whole, it is all on record, and a build goes on from it to the same result.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import busybox_archive, needs_root, stop_and_check
from support.daemon import Daemon, wait_until
from support.remote_images import noise

pytestmark = [needs_root, pytest.mark.timeout(600)]

DOCKERFILE = """
FROM busybox AS first
RUN echo one > /one
RUN --mount=type=cache,target=/c head -c 30000000 /dev/urandom > /c/part; echo ready; echo two > /two
FROM busybox
COPY --from=first /one /two /from/
COPY big /big/
RUN echo last > /last
"""

MOMENTS = {
    "context": "load context",
    "command": "RUN echo one",
    "command with a mount": " ready",
    "copy from a stage": "COPY --from=first",
    "copy from the context": "COPY big",
    "last command": "RUN echo last",
    "export": "exporting to image",
}


def project(tmp_path: Path, size: int = 20_000_000) -> Path:
    directory = tmp_path / "project"
    (directory / "big").mkdir(parents=True)
    for number in range(4):
        (directory / "big" / f"f{number}").write_bytes(noise(size // 4, number))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


def check(daemon: Daemon) -> None:
    """Everything in the stores is on record, and everything on record is in the stores."""
    data = daemon.data_root
    assert not [name for name in os.listdir(data / "snapshots") if name.startswith(("unpacking", "removing"))]
    assert os.listdir(data / "content/ingest") == []
    assert os.listdir(data / "build/scratch") == []
    listed = daemon.get("/system/df")["BuildCache"]
    mounts = [record["ID"] for record in listed if record["Type"] == "exec.cachemount"]
    assert sorted(os.listdir(data / "build/mounts")) == sorted(mounts)
    assert not any(record["InUse"] for record in listed)


def killed_when(daemon: Daemon, directory: Path, said: str) -> None:
    """Begin a build, and kill the daemon when it says something."""
    client = daemon.popen(
        "boxship", "build", "--progress=plain", "-t", "mine", str(directory), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with client:
        for line in client.stderr:
            if said in line.decode():
                break
        daemon.kill()
        client.stderr.read()
    daemon.start()


def test_killed_in_each_kind_of_step(own_daemon: Daemon, tmp_path):
    directory = project(tmp_path)
    for said in MOMENTS.values():
        killed_when(own_daemon, directory, said)
        check(own_daemon)
        # What was recorded in an earlier round would make the next one end too soon.
        own_daemon.request("POST", "/build/prune?all=1", None)
        own_daemon.cli("docker", "rmi", "-f", "mine", code=None)
    own_daemon.cli("boxship", "build", "-t", "mine", str(directory))
    checked = "cat /from/one /from/two /last; cat /big/* | sha256sum"
    shown = own_daemon.cli("docker", "run", "--rm", "--network=none", "mine", "sh", "-c", checked).stdout
    assert shown.startswith(b"one\ntwo\nlast\n")
    own_daemon.kill()
    own_daemon.start()
    check(own_daemon)
    assert own_daemon.cli("docker", "run", "--rm", "--network=none", "mine", "sh", "-c", checked).stdout == shown


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose disk is a small tmpfs."""
    daemon = Daemon()
    daemon.data_root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", daemon.data_root], check=True)
    try:
        daemon.start()
        daemon.cli("docker", "load", stdin=busybox_archive())
        yield daemon
    finally:
        daemon.request("POST", "/system/shutdown")
        daemon.process.wait(60)
        subprocess.run(["umount", daemon.data_root], check=True)
        stop_and_check(daemon)


def used(path: Path) -> int:
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.parametrize(
    ("dockerfile", "size"),
    [
        ("FROM busybox\nRUN echo one > /one\nRUN head -c 60000000 /dev/urandom > /big\n", 0),
        ("FROM busybox\nRUN echo one > /one\nRUN --mount=type=cache,target=/c head -c 60000000 /dev/urandom > /c/big\n", 0),
        # It fits as a context, and not as a layer as well.
        ("FROM busybox\nRUN echo one > /one\nCOPY big /big\n", 24_000_000),
        ("FROM busybox\nRUN echo one > /one\nCOPY big /big\n", 60_000_000),
    ],
    ids=["command", "cache mount", "layer", "context"],
)
def test_full_disks(small: Daemon, tmp_path, dockerfile, size):
    directory = project(tmp_path, size)
    (directory / "Dockerfile").write_text(dockerfile)
    before = used(small.data_root)
    done = small.cli("boxship", "build", "--progress=plain", str(directory), code=1)
    # The first is what the program that ran into it says.
    assert b"I/O error" in done.stderr or b"o space left on device" in done.stderr
    small.request(
        "POST", f"/build/prune?filters={json.dumps({'type': ['exec.cachemount']})}".replace('"', "%22").replace(" ", "")
    )
    wait_until(lambda: used(small.data_root) <= before + (1 << 20), "the room is free again")
    check(small)
    (directory / "Dockerfile").write_text("FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n")
    for number in range(4):
        (directory / "big" / f"f{number}").write_bytes(b"")
    small.cli("boxship", "build", "-t", "mine", str(directory))
    assert small.cli("docker", "run", "--rm", "--network=none", "mine", "cat", "/one", "/two").stdout == b"one\ntwo\n"
