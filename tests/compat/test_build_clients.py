"""Builds by the clients there are: Docker's command line, docker-py and aiodocker."""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
from pathlib import Path

import aiodocker
import docker
import pytest
from docker.errors import APIError, BuildError
from support.build_api import content, dockerfile, document
from support.daemon import DOCKER, wait_until

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.skipif(DOCKER is None, reason="Docker's command line is missing, or older than release 26"),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with a Dockerfile and a file that is ignored."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY . /here/\nRUN ls -A /here\nCMD cat /here/hello\n")
    (tmp_path / "hello").write_text("hello\n")
    (tmp_path / "ignored.log").write_text("x")
    (tmp_path / ".dockerignore").write_text("*.log\n.dockerignore\n")
    return tmp_path


def build(daemon, *args: str, stdin: str | None = None, code: int = 0) -> subprocess.CompletedProcess[str]:
    """``docker build`` with the classic builder."""
    done = subprocess.run(
        ["docker", "build", *args],
        env={**daemon.env(), "DOCKER_BUILDKIT": "0"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done


def run(daemon, image: str) -> str:
    return daemon.cli("docker", "run", "--rm", "--network", "none", image).stdout.decode()


def test_docker_builds_a_directory(daemon, project, tmp_path_factory):
    written = tmp_path_factory.mktemp("written") / "id"
    said = build(daemon, "-t", "cli:1", "-t", "cli:2", "--iidfile", str(written), str(project)).stdout
    assert "Step 3/4 : RUN ls -A /here\n ---> Running in " in said
    assert "\nDockerfile\nhello\n" in said
    assert said.rstrip().endswith("Successfully tagged cli:1\nSuccessfully tagged cli:2")
    assert run(daemon, "cli:1") == "hello\n"
    assert written.read_text() == daemon.get("/images/cli:2/json")["Id"]
    assert "Using cache" in build(daemon, str(project)).stdout


def test_docker_is_quiet_when_asked_to(daemon, project):
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", build(daemon, "-q", str(project)).stdout)


def test_docker_builds_from_its_standard_input(daemon, project):
    assert "alone" in build(daemon, "-", stdin="FROM busybox\nRUN echo alone\n").stdout
    # Its archive lacks the last file's padding.
    said = build(daemon, "-f", "-", str(project), stdin="FROM busybox\nCOPY hello /\nRUN cat /hello\n").stdout
    assert " ---> Running in " in said
    assert "hello\n" in said
    archive = subprocess.run(
        ["docker", "build", "-"],
        env={**daemon.env(), "DOCKER_BUILDKIT": "0"},
        input=dockerfile("FROM busybox\nCOPY a /\n", a="x"),
        capture_output=True,
        check=False,
    )
    assert b"Successfully built" in archive.stdout


def test_docker_tells_what_failed(daemon):
    done = build(daemon, "-", stdin="FROM busybox\nRUN echo why >&2; exit 5\n", code=5)
    assert "why" in done.stdout
    assert "The command '/bin/sh -c echo why >&2; exit 5' returned a non-zero code: 5" in done.stderr
    assert "Cannot locate specified Dockerfile: Dockerfile" in _without_dockerfile(daemon)
    assert "unknown instruction" in build(daemon, "-", stdin="FROM busybox\nBOGUS x\n", code=1).stderr


def _without_dockerfile(daemon) -> str:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("other"))
    done = subprocess.run(
        ["docker", "build", "-"],
        env={**daemon.env(), "DOCKER_BUILDKIT": "0"},
        input=out.getvalue(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.decode()


def test_docker_builds_from_urls_that_it_downloads_itself(daemon, project):
    quiet = functools.partial(_Quiet, directory=str(project))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            base = f"http://127.0.0.1:{server.server_port}"
            (project / "plain").write_text("FROM busybox\nRUN echo by url\n")
            assert "by url" in build(daemon, f"{base}/plain").stdout
            with tarfile.open(project / "context.tgz", "w:gz") as tar:
                tar.add(project / "hello", "hello")
                tar.addfile(*_file("sub/Dockerfile", b"FROM busybox\nCOPY hello /by-url\nRUN cat /by-url\n"))
            assert "\nhello\n" in build(daemon, "-f", "sub/Dockerfile", f"{base}/context.tgz").stdout
        finally:
            server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def _file(name: str, data: bytes) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, io.BytesIO(data)


def test_an_interrupted_docker_ends_the_build(daemon):
    process = subprocess.Popen(
        ["docker", "build", "--no-cache", "-"],
        env={**daemon.env(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"FROM busybox\nRUN echo running; exec sleep 54321\n")
    process.stdin.close()
    while b"running" not in process.stdout.readline():
        pass
    wait_until(_sleepers, "the command runs")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    process.stdout.close()
    wait_until(lambda: not _sleepers(), "the command is gone")


def _sleepers() -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == b"sleep\x0054321\x00":
                    found.append(pid)
        except OSError:
            continue
    return found


def test_docker_prunes_the_cache(daemon, project):
    build(daemon, "-t", "pruned", str(project))
    assert "Total reclaimed space" in daemon.cli("docker", "builder", "prune", "-af").stdout.decode()
    assert "Using cache" not in build(daemon, "-t", "pruned", str(project)).stdout


def test_docker_py_builds(daemon, project):
    client = docker.DockerClient(base_url=daemon.host)
    image, lines = client.images.build(
        path=str(project),
        tag="py:1",
        buildargs={"A": "b"},
        labels={"x": "y"},
        extra_hosts={"h": "1.2.3.4"},
        rm=True,
        pull=False,
    )
    assert image.tags == ["py:1"]
    assert image.labels == {"x": "y"}
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    assert client.containers.run("py:1", remove=True, network_mode="none") == b"hello\n"
    image, _ = client.images.build(fileobj=io.BytesIO(b"FROM busybox\nENV a=1\n"), gzip=False)
    assert image.attrs["Config"]["Env"][-1] == "a=1"
    with pytest.raises(BuildError) as failed:
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN false\n"))
    assert failed.value.msg == "The command '/bin/sh -c false' returned a non-zero code: 1"
    with pytest.raises(APIError) as refused:
        client.images.build(fileobj=io.BytesIO(b"FROM\n"))
    assert refused.value.status_code == 400
    assert client.api.prune_builds()["SpaceReclaimed"] >= 0
    client.close()


async def test_aiodocker_builds(daemon):
    async with aiodocker.Docker(url=daemon.host) as client:
        archive = io.BytesIO(dockerfile("FROM busybox\nCOPY a /\nCMD cat /a\n", a="aio\n"))
        lines = await client.images.build(fileobj=archive, encoding="identity", tag="aio:1", labels={"k": "v"})
        assert lines[-1]["stream"] == "Successfully tagged aio:1\n"
        assert (await client.images.inspect("aio:1"))["Config"]["Labels"] == {"k": "v"}
        archive.seek(0)
        streamed = [line async for line in client.images.build(fileobj=archive, encoding="identity", tag="aio:2", stream=True)]
        assert any("Using cache" in line.get("stream", "") for line in streamed)
        assert run(daemon, "aio:2") == "aio\n"
        archive = io.BytesIO(dockerfile("FROM busybox\nRUN false\n"))
        with pytest.raises(aiodocker.exceptions.DockerStreamError, match="returned a non-zero code: 1"):
            await client.images.build(fileobj=archive, encoding="identity")


def test_annotations_of_the_command_line_are_in_all_its_images(daemon, project, tmp_path_factory):
    written = tmp_path_factory.mktemp("annotated") / "image.tar"
    flags = ("--annotation", "who=all", "--annotation", "manifest-descriptor[linux/amd64],manifest:what=both")
    outputs = ("-o", f"type=oci,dest={written}", "-o", "type=image,name=annotated:1", "--platform", "linux/amd64")
    daemon.cli("boxship", "build", *flags, *outputs, str(project))
    for archive in (written.read_bytes(), daemon.cli("docker", "save", "annotated:1").stdout):
        (entry,) = json.loads(content(archive, "index.json"))["manifests"]
        assert document(archive, entry["digest"])["annotations"] == {"who": "all", "what": "both"}
    (entry,) = json.loads(content(written.read_bytes(), "index.json"))["manifests"]
    assert entry["annotations"] == {"what": "both"}
    refused = daemon.cli("boxship", "build", "--annotation", "layer:a=b", str(project), code=None)
    assert (refused.returncode != 0, b'unknown annotation type "layer"' in refused.stderr) == (True, True)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo, which makes the layout")
def test_an_oci_layout_stands_for_an_image_and_becomes_none(own_daemon, tmp_path):
    base, project = tmp_path / "base", tmp_path / "project"
    base.mkdir()
    (base / "Dockerfile").write_text("FROM busybox\nRUN echo of the layout > /word\nENV WORD=kept\n")
    own_daemon.cli("boxship", "build", "-o", f"type=oci,name=base:1,dest={tmp_path}/base.tar", str(base))
    copy = ["skopeo", "copy", "--quiet", f"oci-archive:{tmp_path}/base.tar", f"oci:{tmp_path}/layout:mine"]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)
    own_daemon.cli("boxship", "builder", "prune", "-af")
    snapshots = own_daemon.data_root / "snapshots"
    before = {image["Id"] for image in own_daemon.get("/images/json?all=1")}, sorted(os.listdir(snapshots))
    project.mkdir()
    text = "FROM elsewhere\nRUN cat /word > /own; echo $WORD >> /own\nCOPY --from=elsewhere /word /again\n"
    (project / "Dockerfile").write_text(text)
    context = ("--build-context", f"elsewhere=oci-layout://{tmp_path}/layout:mine")
    own_daemon.cli("boxship", "build", *context, "-t", "made", str(project))
    shown = own_daemon.cli("docker", "run", "--rm", "--network=none", "made", "cat", "/own", "/again").stdout
    assert shown == b"of the layout\nkept\nof the layout\n"
    made = own_daemon.get("/images/made/json")["Id"]
    assert {image["Id"] for image in own_daemon.get("/images/json?all=1")} == {*before[0], made}, "the base is no image here"
    assert b"CACHED" in own_daemon.cli("boxship", "build", "--progress=plain", *context, str(project)).stderr
    failed = own_daemon.cli("boxship", "build", *context, "--platform", "linux/s390x", str(project), code=None)
    assert failed.returncode != 0
    assert b"linux/s390x" in failed.stderr
    own_daemon.cli("docker", "rmi", "made")
    own_daemon.cli("docker", "image", "prune", "-f")
    own_daemon.cli("boxship", "builder", "prune", "-af")
    wait_until(lambda: sorted(os.listdir(snapshots)) == before[1], "nothing is left of the layout's image")
