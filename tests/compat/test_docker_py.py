"""docker-py against the daemon: the library most programs talk to Docker with."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import closing

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from support.daemon import wait_until

# The library leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def client(daemon):
    with closing(docker.DockerClient(base_url=daemon.host)) as client:
        yield client


def test_version_is_negotiated(client):
    assert client.version()["ApiVersion"] == "1.51"
    assert client.ping()
    assert client.info()["OSType"] == "linux"


def test_run_returns_the_output(client):
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(ContainerError) as caught:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert caught.value.exit_status == 3
    assert b"bad" in caught.value.stderr


def test_a_containers_life(client):
    container = client.containers.create(
        "busybox", ["sh", "-c", "echo $X; exec sleep 1000"], environment={"X": "y"}, labels={"a": "b"}
    )
    assert container.status == "created"
    container.start()
    container.reload()
    assert container.status == "running"
    wait_until(lambda: container.logs() == b"y\n", "the log is there")
    assert container.logs(stdout=False) == b""
    assert next(container.logs(stream=True)) == b"y\n"
    container.rename("renamed-by-docker-py")
    container.reload()
    assert container.name == "renamed-by-docker-py"
    assert container.id in [c.id for c in client.containers.list(filters={"label": "a=b"})]
    container.kill("TERM")
    container.stop(timeout=0)
    assert container.wait()["StatusCode"] == 137
    container.remove()
    with pytest.raises(NotFound, match="No such container"):
        client.containers.get(container.id)


def test_attach_socket(client):
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    container.start()
    sock._sock.sendall(b"through the socket\n")
    header = sock.read(8)
    assert header == b"\x01\0\0\0\0\0\0\x13"
    assert sock.read(19) == b"through the socket\n"
    sock.close()
    container.remove(force=True)


def test_attach_streams_live_output(client):
    container = client.containers.create("busybox", ["sh", "-c", "echo a; echo b"])
    stream = container.attach(stream=True, logs=True)
    container.start()
    assert b"".join(stream) == b"a\nb\n"
    container.wait()
    container.remove()


def test_options_reach_the_container(client):
    out = client.containers.run(
        "busybox", ["sh", "-c", "id -u; hostname; cat /proc/self/oom_score_adj; cat /proc/sys/net/core/somaxconn"], remove=True,
        user="1000", hostname="hosty", oom_score_adj=17, sysctls={"net.core.somaxconn": "77"}, network_mode="none",
    )  # fmt: skip
    assert out.split() == [b"1000", b"hosty", b"17", b"77"]


def test_errors_have_dockers_messages(client):
    with pytest.raises(ImageNotFound, match="No such image: nothing:latest"):
        client.api.create_container("nothing")
    container = client.containers.create("busybox", name="only-one")
    with pytest.raises(APIError, match="is already in use by container") as caught:
        client.containers.create("busybox", name="only-one")
    assert caught.value.status_code == 409
    with pytest.raises(APIError, match="is not running") as caught:
        container.kill()
    assert caught.value.status_code == 409
    with pytest.raises(APIError, match="Invalid container name") as caught:
        client.containers.create("busybox", name="no spaces allowed")
    assert caught.value.status_code == 400
    container.remove()


def test_events_come_as_they_happen(client):
    events = client.events(decode=True, filters={"type": "container", "label": "watched=yes"})
    container = client.containers.run("busybox", ["true"], detach=True, labels={"watched": "yes"})
    seen = [next(events)["Action"] for _ in range(3)]
    assert seen == ["create", "start", "die"]
    container.remove()
    assert next(events)["Action"] == "destroy"
    events.close()


def test_images(client):
    image = client.images.get("busybox")
    assert "busybox:latest" in image.tags
    assert image.tag("localhost:5000/copy", "v1")
    assert any("localhost:5000/copy:v1" in i.tags for i in client.images.list())
    saved = b"".join(client.images.get("localhost:5000/copy:v1").save(named="localhost:5000/copy:v1"))
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))
    assert manifest[0]["RepoTags"] == ["localhost:5000/copy:v1"]
    client.images.remove("localhost:5000/copy:v1")
    (loaded,) = client.images.load(saved)
    assert loaded.id == image.id
    client.images.remove("localhost:5000/copy:v1")
    assert client.images.get("busybox").history()


def test_prune(client):
    container = client.containers.create("busybox", labels={"prune": "docker-py"})
    assert client.containers.prune(filters={"label": "prune=docker-py"})["ContainersDeleted"] == [container.id]
