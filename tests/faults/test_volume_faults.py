"""Volumes through kills of the daemon and full disks: whole or not there at all, and nobody's data lost."""

from __future__ import annotations

import itertools
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import member
from support.daemon import Daemon
from support.daemons import on_small_disk
from support.volumes import create, load_image, volume_names

pytestmark = needs_root

_FILES = 40


def _content() -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(member(f"data/{number:02}"), bytes(10_000)) for number in range(_FILES)]


def _volumes_of(daemon: Daemon) -> dict[str, set[str]]:
    """The volumes that each container says it has."""
    return {
        container["Id"]: {mount["Name"] for mount in container["Mounts"]} for container in daemon.get("/containers/json?all=1")
    }


@pytest.mark.parametrize("delay", [0.02, 0.1])
def test_kill_of_the_daemon_while_volumes_come_and_go(own_daemon, delay):
    load_image(own_daemon, "full:1", _content(), ["/data"])
    acknowledged: list[tuple[str, str]] = []
    removed: set[str] = set()
    stopping = threading.Event()

    def client(number: int) -> None:
        for count in itertools.count():
            name = f"named-{number}-{count}"
            try:
                ident = create(own_daemon, "full:1", "true", host={"Binds": [f"{name}:/data/sub"]})
                acknowledged.append((ident, name))
                if count % 2:
                    # From the request on it may be gone or not.
                    removed.add(ident)
                    own_daemon.request("DELETE", f"/containers/{ident}?v=1")
            except (OSError, IndexError, ValueError, AssertionError):
                # The daemon is gone.
                if stopping.is_set():
                    return
                raise

    threads = [threading.Thread(target=client, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(acknowledged) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    stopping.wait(delay)
    stopping.set()
    own_daemon.kill()
    for thread in threads:
        thread.join()
    own_daemon.start()
    present = volume_names(own_daemon)
    containers = _volumes_of(own_daemon)
    for ident, name in acknowledged:
        assert name in present
        assert ident in containers or ident in removed
    for ident, names in containers.items():
        assert len(names) == 2, ident
        assert names <= set(present)
    # What has no name of its own has a container: the two are recorded and forgotten together.
    nameless = {name for name in present if not name.startswith("named-")}
    assert nameless <= set().union(*containers.values())
    root = own_daemon.data_root / "volumes"
    assert {entry for entry in os.listdir(root) if not entry.startswith(".")} == set(present)
    for name in nameless:
        assert len(os.listdir(root / name / "_data")) == _FILES
    assert os.listdir(root / ".staged") == []


@pytest.fixture
def small_disk() -> Iterator[Daemon]:
    """A daemon whose volumes have 4 MiB."""
    with on_small_disk(4, "volumes") as daemon:
        yield daemon


def test_a_full_disk_while_a_volume_is_filled(small_disk):
    load_image(small_disk, "large:1", [(member("data/small"), b"x"), (member("data/sub/large"), bytes(8 << 20))], ["/data"])
    small_disk.request("POST", "/volumes/create", {"Name": "kept"})
    for host in ({}, {"Binds": ["fresh:/data"]}, {"Binds": ["kept:/data"]}):
        message = create(small_disk, "large:1", "true", status=500, host=host)
        assert message.startswith("copy the image's /data into volume ")
        # As a rule the large one, but the small one too while what the attempt before has left is still being removed.
        assert message.endswith(("sub/large: No space left on device", "small: No space left on device"))
    assert volume_names(small_disk) == ["kept"]
    assert small_disk.get("/containers/json?all=1") == []
    root = small_disk.data_root / "volumes"
    assert os.listdir(root / "kept" / "_data") == []
    assert os.listdir(root / ".staged") == []
    # What was given back is there for the next.
    create(small_disk, "large:1", "true", host={"Binds": ["kept:/data/small-one", "fresh:/data:nocopy"]})


def test_holes_come_along(daemon, tmp_path):
    (tmp_path / "data").mkdir()
    size = 1 << 30
    with open(tmp_path / "data" / "sparse", "wb") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"middle")
    layer = subprocess.run(["tar", "-C", tmp_path, "--sparse", "-c", "data"], check=True, capture_output=True).stdout
    load_image(daemon, "sparse:1", layer, ["/data"])
    ident = create(daemon, "sparse:1", "true")
    (point,) = daemon.inspect(ident)["Mounts"]
    copied = Path(point["Source"], "sparse")
    assert copied.stat().st_size == size
    assert copied.stat().st_blocks * 512 < 1 << 20
    with open(copied, "rb") as file:
        file.seek(size // 2)
        assert file.read(6) == b"middle"
    daemon.request("DELETE", f"/containers/{ident}?v=1")
    daemon.request("DELETE", "/images/sparse:1")


def test_a_lost_database_loses_no_volume(own_daemon):
    own_daemon.request("POST", "/volumes/create", {"Name": "precious"})
    place = Path(own_daemon.get("/volumes/precious")["Mountpoint"])
    (place / "data").write_text("years of it")
    own_daemon.terminate()
    for name in os.listdir(own_daemon.data_root):
        if name.startswith("state.db"):
            os.unlink(own_daemon.data_root / name)
    own_daemon.start()
    assert volume_names(own_daemon) == ["precious"]
    assert (place / "data").read_text() == "years of it"
