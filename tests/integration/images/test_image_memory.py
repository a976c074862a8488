"""A big layer needs a daemon no memory to speak of, however large it is."""

import hashlib
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxshipd.images.model import ImageConfig, RootFS, encode
from conftest import needs_root
from support.archives import member
from support.daemon import DOCKER, Daemon
from support.daemons import running

pytestmark = [needs_root, pytest.mark.skipif(DOCKER is None, reason="no docker command")]

MIB = 1 << 20
SIZE = 500 * MIB
BOUND_MB = 150


@pytest.fixture
def fresh() -> Iterator[Daemon]:
    with running(Daemon()) as daemon:
        yield daemon


class Pieces:
    """A file of noise and text by turns, made as it is read."""

    def __init__(self) -> None:
        self._noise = random.Random(3).randbytes(MIB)
        self._left = SIZE

    def read(self, size: int) -> bytes:
        size = min(size, self._left, MIB)
        self._left -= size
        return (self._noise if self._left // MIB % 2 else b"text that comes again " * (MIB // 20))[:size]


def image(home: Path) -> Path:
    """A docker-archive of an image of one big file."""
    layer, archive = home / "layer.tar", home / "image.tar"
    with tarfile.open(layer, "w", copybufsize=MIB) as tar:
        tar.addfile(member("big", size=SIZE), Pieces())
    with layer.open("rb") as file:
        diff = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    config = home / "config.json"
    config.write_bytes(encode(ImageConfig(rootfs=RootFS([diff]), architecture="amd64", os="linux")))
    manifest = home / "manifest.json"
    manifest.write_text('[{"Config":"config.json","RepoTags":["big:1"],"Layers":["layer.tar"]}]')
    with tarfile.open(archive, "w", copybufsize=MIB) as tar:
        for part in (config, layer, manifest):
            tar.add(part, part.name)
    layer.unlink()
    return archive


def test_a_load_of_500_mb_is_bounded(fresh, tmp_path):
    archive = image(tmp_path)
    idle = resident(fresh.process.pid)
    # The kernel keeps the highest figure itself, so that nothing is missed between two looks.
    Path(f"/proc/{fresh.process.pid}/clear_refs").write_text("5")
    fresh.cli("docker", "load", "-i", str(archive), timeout=200)
    peak = high_water(fresh.process.pid)
    print(f"idle {idle} MB, at most {peak} MB while 500 MB were loaded")
    assert peak - idle < BOUND_MB
    with (tmp_path / "saved").open("wb") as out:
        saver = fresh.popen("docker", "save", "big:1", stdout=out)
        assert saver.wait() == 0
    assert high_water(fresh.process.pid) - idle < BOUND_MB
    assert os.stat(tmp_path / "saved").st_size > SIZE


def resident(pid: int) -> float:
    return field(pid, "VmRSS")


def high_water(pid: int) -> float:
    return field(pid, "VmHWM")


def field(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024
