"""The SDK and the way to a daemon through ``system dial-stdio``, against a real daemon."""

from __future__ import annotations

import os
import subprocess
import tarfile
from io import BytesIO

import pytest
from boxship import Client
from boxship.errors import APIError, NotFound
from boxship.types.containers import CreateRequest
from boxship.types.host import HostConfig
from support.daemon import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


@pytest.fixture
def client(daemon: Daemon):
    with Client(daemon.host) as client:
        yield client


def test_a_container_from_creation_to_removal(client):
    request = CreateRequest(
        image="busybox", cmd=["sh", "-c", "echo out; echo err >&2; exit 4"], host_config=HostConfig(network_mode="none")
    )
    container = client.containers.create(request, name="sdk-life").id
    client.containers.start(container)
    assert client.containers.wait(container).status_code == 4
    assert client.containers.inspect("sdk-life").state.exit_code == 4
    assert sorted(client.containers.logs(container)) == [(1, b"out\n"), (2, b"err\n")]
    client.containers.rename(container, "sdk-renamed")
    assert [found.names for found in client.containers.list(all=True, filters={"name": ["sdk-renamed"]})] == [["/sdk-renamed"]]
    client.containers.remove(container)
    with pytest.raises(NotFound):
        client.containers.inspect(container)


def test_run_gives_the_output(client):
    assert client.containers.run("busybox", ["echo", "hello"]) == b"hello\n"
    with pytest.raises(APIError, match="bad"):
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"])


def test_attached_streams(client):
    request = CreateRequest(
        image="busybox",
        cmd=["cat"],
        open_stdin=True,
        stdin_once=True,
        attach_stdin=True,
        host_config=HostConfig(network_mode="none"),
    )
    container = client.containers.create(request).id
    duplex, multiplexed = client.containers.attach(container, stdin=True)
    with duplex:
        client.containers.start(container)
        duplex.write(b"through")
        duplex.finish_writing()
        assert multiplexed
        assert duplex.read() == b"\x01\0\0\0\0\0\0\x07through"
        assert duplex.read() == b""
    client.containers.wait(container)
    client.containers.remove(container)


def test_images_out_and_in(client):
    archive = b"".join(client.images.save("busybox"))
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        assert "manifest.json" in tar.getnames()
    assert any("busybox:latest" in said for said in client.images.load([archive]))
    client.images.tag("busybox", "sdk-other", "1")
    assert {"busybox:latest", "sdk-other:1"} <= {tag for image in client.images.list() for tag in image.repo_tags}
    assert client.images.remove("sdk-other:1")[0].untagged == "sdk-other:1"


def test_the_daemon_about_itself(client):
    assert client.ping()
    assert client.version().version
    assert client.info().images >= 1


def test_a_daemon_reached_through_standard_input_and_output(daemon):
    request = b"GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    command = [*daemon.command("boxship"), "system", "dial-stdio"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=daemon.env()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        process.stdin.flush()
        answer = process.stdout.read()
        assert process.wait(20) == 0
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"OK")


def test_ssh_runs_the_far_end(daemon, tmp_path):
    """With a stand-in for ssh that runs the command here, as a real one would over there."""
    ssh = tmp_path / "ssh"
    boxship = tmp_path / "boxship"
    boxship.write_text(f'#!/bin/sh\nexec {" ".join(daemon.command("boxship"))} "$@"\n')
    ssh.write_text('#!/bin/sh\necho "$@" >>"$0.log"\nwhile [ "$1" != -- ]; do shift; done\nshift 2\nexec "$@"\n')
    for program in (ssh, boxship):
        program.chmod(0o755)
    env = daemon.env() | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    address = f"ssh://me@far:2222{daemon.socket}"
    command = [*daemon.command("boxship"), "-H", address, "ps", "-q"]
    subprocess.run(command, env=env, check=True, timeout=30, capture_output=True)
    asked = (tmp_path / "ssh.log").read_text()
    assert (
        asked.strip() == f"-T -o ConnectTimeout=30 -l me -p 2222 -- far boxship --host unix://{daemon.socket} system dial-stdio"
    )
