"""Images for several platforms and for other ones, with Docker's own command line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxshipd.images import platform
from conftest import needs_root
from support.archives import SourceImage, digest, files, member, oci_archive, tar
from support.daemon import DOCKER, Daemon

pytestmark = [
    needs_root,
    pytest.mark.skipif(DOCKER is None, reason="no docker command"),
    # An interpreter is registered for all of the machine, so one process has all of these.
    pytest.mark.xdist_group("interpreters"),
]

HERE = platform.host().architecture
MAGIC = b"\x7fBoxship's tests'"


def test_docker_has_each_platform_of_a_name(daemon, tmp_path):
    mine = SourceImage([files(a=b"mine")], ["multi:1"], "gzip", {"Cmd": ["x"]}, HERE)
    other = SourceImage([files(a=b"other")], ["multi:1"], "gzip", {"Cmd": ["x"]}, "s390x")
    daemon.cli("docker", "load", stdin=oci_archive(mine, other, nested=True))

    def said(*words: str) -> str:
        return daemon.cli("docker", *words).stdout.decode().strip()

    assert said("image", "inspect", "-f", "{{.Id}}", "multi:1") == mine.id
    assert said("image", "inspect", "--platform", "linux/s390x", "-f", "{{.Id}}", "multi:1") == other.id
    assert said("images", "-q", "multi").startswith(mine.id.removeprefix("sha256:")[:12])
    created = daemon.cli("docker", "create", "--network", "none", "--platform", "linux/s390x", "multi:1")
    assert said("inspect", "-f", "{{.Image}}", created.stdout.decode().strip()) == other.id
    daemon.cli("docker", "rm", created.stdout.decode().strip())
    saved = tmp_path / "saved.tar"
    said("save", "-o", str(saved), "multi:1")
    raw = json.loads(subprocess.check_output(["tar", "-xOf", str(saved), "index.json"]))
    (entry,) = raw["manifests"]
    assert entry["mediaType"] == "application/vnd.oci.image.index.v1+json"
    said("save", "-o", str(saved), "--platform", "linux/s390x", "multi:1")
    (entry,) = json.loads(subprocess.check_output(["tar", "-xOf", str(saved), "index.json"]))["manifests"]
    assert entry["digest"] == digest(other.manifest)
    said("rmi", "--platform", "linux/s390x", "multi:1")
    said("rmi", "multi:1")


@pytest.fixture
def foreign(daemon: Daemon) -> Iterator[str]:
    """An image whose program this machine doesn't know."""
    source = SourceImage([tar((member("x", mode=0o755), MAGIC))], ["foreign:1"], "", {"Cmd": ["/x", "word"]}, "s390x")
    daemon.cli("docker", "load", stdin=oci_archive(source))
    yield "foreign:1"
    daemon.cli("docker", "rmi", "-f", "foreign:1")


@pytest.fixture
def interpreter(tmp_path: Path) -> Iterator[None]:
    """A program registered for the foreign image's, found by the kernel though the image doesn't have it: busybox's echo."""
    busybox = shutil.which("busybox")
    place = tmp_path / "binfmt"
    place.mkdir()
    if busybox is None or subprocess.run(["mount", "-t", "binfmt_misc", "none", place], check=False).returncode:
        pytest.skip("needs a static busybox and binfmt_misc")
    name = f"boxship-test-{os.getpid()}"
    program = tmp_path / "echo"
    shutil.copy(busybox, program)
    try:
        (place / "register").write_bytes(b":%s:M::%s::%s:F" % (name.encode(), MAGIC, os.fsencode(program)))
        yield
        (place / name).write_text("-1")
    finally:
        subprocess.run(["umount", place], check=True)


def test_without_an_interpreter_docker_s_warning_and_the_kernel_s_error(daemon, foreign):
    said = daemon.cli("docker", "run", "--rm", "--network", "none", foreign, code=None)
    assert said.returncode != 0
    assert b"platform (linux/s390x) does not match the detected host platform (linux/" in said.stderr
    assert b"exec /x: exec format error" in said.stderr
    quiet = daemon.cli("docker", "run", "--rm", "--network", "none", "--platform", "linux/s390x", foreign, code=None)
    assert b"does not match" not in quiet.stderr


def test_with_an_interpreter_it_runs(daemon, foreign, interpreter):
    said = daemon.cli("docker", "run", "--rm", "--network", "none", "--platform", "linux/s390x", foreign)
    assert said.stdout == b"/x word\n"
