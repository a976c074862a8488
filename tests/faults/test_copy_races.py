"""Containers that change their files under a copy, and archives that try to get out: nothing outside is read or written.

The class of CVE-2018-15664, CVE-2019-14271 and CVE-2026-41567.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import time
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import files, member, tar
from support.archiving import call, content, get, head, holders, members, put
from support.daemon import Daemon, wait_until
from support.hostile import HARMLESS, REFUSED, layer, state_of

pytestmark = needs_root

SECONDS = 2.0
# One turn swaps a directory for a link to the host's root, or to a directory of it, and back, with nothing in between.
FLIPPER = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chroot({root!r})
print("flipping", flush=True)
while True:
    libc.syscall(316, -100, b"/race/d", -100, b"/race/l", 2)
"""


def created(daemon: Daemon, *flags: str, command: tuple[str, ...] = ("sleep", "1000")) -> str:
    return (
        daemon.cli("docker", "create", "--network", "none", "--stop-signal", "KILL", *flags, "busybox", *command)
        .stdout.decode()
        .strip()
    )


@pytest.fixture
def outside(tmp_path):
    """A directory of the host with a secret, and how it looks."""
    out = tmp_path / "outside"
    out.mkdir()
    (out / "secret").write_text("of the host")
    return out


@pytest.fixture
def flipping(daemon: Daemon, outside: Path):
    """A container in which a process swaps /race/d and /race/l, a link to the host's directory, as fast as it can."""
    import subprocess
    import sys

    id_ = created(daemon)
    entries = [
        member("race", tarfile.DIRTYPE),
        member("race/d", tarfile.DIRTYPE),
        (member("race/d/inner"), b"of the container"),
        member("race/l", tarfile.SYMTYPE, linkname=str(outside)),
    ]
    assert put(daemon, id_, "/", tar(*entries))[0] == 200
    daemon.cli("docker", "start", id_)
    root = f"/proc/{daemon.inspect(id_)['State']['Pid']}/root"
    # In the container's root, as one of its processes would be; busybox has no renameat2(2) to exchange by.
    flipper = subprocess.Popen([sys.executable, "-c", FLIPPER.format(root=root)], stdout=subprocess.PIPE)
    assert flipper.stdout.readline() == b"flipping\n"
    yield id_
    flipper.kill()
    flipper.wait()
    flipper.stdout.close()
    daemon.cli("docker", "rm", "-f", id_)


def during(seconds: float):
    """Turns until the time is over, numbered."""
    end = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < end:
        yield turn
        turn += 1


def test_reading_while_a_directory_becomes_a_link_to_the_host(daemon, flipping):
    seen = set()
    for turn in during(SECONDS):
        path = ("/race/d/secret", "/race/d/inner", "/race/d/", "/race")[turn % 4]
        status, archive = get(daemon, flipping, path)
        if status == 200:
            with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
                for info in opened:
                    assert "secret" not in info.name
                    if info.isreg():
                        seen.add(opened.extractfile(info).read())
        told = head(daemon, flipping, path)
        assert told == 404 or told["name"] != "secret"
    assert seen == {b"of the container"}
    assert turn > 10


def test_writing_while_a_directory_becomes_a_link_to_the_host(daemon, flipping, outside):
    before = state_of(str(outside))
    worked = 0
    for turn in during(SECONDS):
        if turn % 2:
            status, _ = put(daemon, flipping, "/race/d", files(**{"secret": b"overwritten", "new/f": b"escaped"}))
        else:
            status, _ = put(daemon, flipping, "/race", files(**{"d/secret": b"overwritten", "d/new/f": b"escaped"}))
        worked += status == 200
        assert status in (200, 400, 404)
    assert state_of(str(outside)) == before
    assert worked


def test_writing_while_files_become_links_to_the_host(daemon, outside):
    """Modes, owners, times and attributes are set on what was made, not on what has its name by then."""
    swap = f"while true; do ln -sf {outside}/secret /race/f; rm -f /race/f; done"
    id_ = created(daemon, command=("sh", "-c", swap))
    put(daemon, id_, "/", tar(member("race", tarfile.DIRTYPE)))
    daemon.cli("docker", "start", id_)
    before = state_of(str(outside))
    pipe = member("f", tarfile.FIFOTYPE, mode=0o777, uid=99, mtime=5)
    file = member("f", mode=0o4777, uid=99, mtime=5)
    for turn in during(SECONDS):
        put(daemon, id_, "/race", tar((file, b"evil")) if turn % 2 else tar(pipe))
    daemon.cli("docker", "rm", "-f", id_)
    assert state_of(str(outside)) == before


def test_a_name_that_becomes_a_device_is_not_opened(daemon):
    """Opening a device, or a pipe that nobody writes to, would act or wait."""
    swap = "cd /race; while true; do echo x > t; mv t f; mkfifo t; mv t f; done"
    id_ = created(daemon, command=("sh", "-c", swap))
    put(daemon, id_, "/", tar(member("race", tarfile.DIRTYPE)))
    daemon.cli("docker", "start", id_)
    kinds = set()
    for _ in during(1.0):
        status, archive = get(daemon, id_, "/race/f")
        if status == 200:
            kinds.update(info.type for info in members(archive).values())
    daemon.cli("docker", "rm", "-f", id_)
    assert kinds == {tarfile.REGTYPE, tarfile.FIFOTYPE}


def test_no_program_of_the_container_unpacks(daemon, tmp_path):
    """A false xz in the image, and an archive that asks for it by its first bytes."""
    trap = b"#!/bin/sh\ntouch /tmp/executed\n"
    id_ = created(daemon)
    for name in ("usr/bin/xz", "usr/bin/unpigz", "usr/bin/unzstd", "bin/xz", "bin/tar", "sbin/chroot"):
        assert put(daemon, id_, "/", tar((member(name, mode=0o755), trap)))[0] == 200
    for _ in ("stopped", "running"):
        assert put(daemon, id_, "/tmp", lzma.compress(files(f=b"in process")))[0] == 200
        assert put(daemon, id_, "/tmp", b"\xfd7zXZ\0" + os.urandom(200))[0] == 400
        assert content(get(daemon, id_, "/tmp/f")[1], "f") == b"in process"
        assert head(daemon, id_, "/tmp/executed") == 404
        daemon.cli("docker", "start", id_)
    daemon.cli("docker", "rm", "-f", id_)


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_hostile_archives(daemon, outside, state):
    id_ = created(daemon)
    if state == "running":
        daemon.cli("docker", "start", id_)
    before = state_of(str(outside))
    refused = {}
    for name, entries in {**REFUSED, **HARMLESS}.items():
        place = f"/tmp/{name}"
        put(daemon, id_, "/tmp", tar(member(name, tarfile.DIRTYPE)))
        status, message = put(daemon, id_, place, layer(entries, str(outside)))
        assert status in (200, 400), (name, message)
        refused[name] = status == 400
    assert state_of(str(outside)) == before
    assert all(refused[name] for name in ("dot-dot", "hard-link-absolute", "symlink-loop", "unknown-type", "parent-is-a-file"))
    # Its link leads to the container's /real here, which isn't there.
    assert [name for name in HARMLESS if refused[name]] == ["symlink-inside-stays-inside"]
    assert call(daemon, "GET", "/_ping")[0] == 200
    daemon.cli("docker", "rm", "-f", id_)


def test_a_mount_is_not_taken_away_by_what_replaces_its_target(daemon, tmp_path):
    """The mount is in another namespace, where the kernel would let go of it without a word."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/keep").write_text("kept")
    id_ = created(daemon, "-v", f"{tmp_path}/data:/srv/data")
    for _ in ("stopped", "running"):
        for archive in (files(srv=b"a file"), tar(member("srv", tarfile.SYMTYPE, linkname="/tmp"))):
            status, message = put(daemon, id_, "/", archive)
            assert (status, "busy" in message) == (400, True)
        assert put(daemon, id_, "/srv", files(data=b"a file"))[0] == 400
        assert (tmp_path / "data/keep").read_text() == "kept"
        assert content(get(daemon, id_, "/srv/data/keep")[1], "keep") == b"kept"
        daemon.cli("docker", "start", id_)
    assert daemon.cli("docker", "exec", id_, "cat", "/srv/data/keep").stdout == b"kept"
    daemon.cli("docker", "rm", "-f", id_)


def test_the_host_never_sees_a_mount(daemon):
    id_ = created(daemon)
    mounts = Path("/proc/self/mountinfo").read_text()
    sent = []

    def slowly():
        yield files(f=b"x" * 100_000)[:50_000]
        wait_until(lambda: holders(id_), "the root is held")
        sent.append(Path("/proc/self/mountinfo").read_text())
        yield files(f=b"x" * 100_000)[50_000:]

    assert put(daemon, id_, "/tmp", slowly())[0] == 200
    assert not [line for line in sent[0].splitlines() if daemon.name in line]
    assert not [line for line in mounts.splitlines() if daemon.name in line]
    wait_until(lambda: not holders(id_), "the holder has ended with its lease")
    daemon.cli("docker", "rm", id_)
