"""Registries in the SDK, against a real daemon and a real registry."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from boxship import Client
from boxship.errors import APIError, InvalidReference, NotFound, StreamError
from boxship.types.containers import CreateRequest
from boxship.types.host import HostConfig
from boxship.types.images import ProgressMessage
from support.daemon import Daemon
from support.registry import PASSWORD, REGISTRY, USER, Registry
from support.remote_images import DOCKER_MANIFEST, OCI_MANIFEST, RemoteImage, layer

pytestmark = pytest.mark.skipif(REGISTRY is None, reason="no docker-registry")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def client(daemon: Daemon, tmp_path) -> Iterator[Client]:
    with Client(daemon.host, config=str(tmp_path)) as client:
        yield client


def test_pull_by_tag_and_platform(client, registry):
    image = RemoteImage([layer({"etc/sdk": b"1"})], architecture="arm64", variant="v8")
    image.put(registry, "sdk/pulled", "v1")
    said: list[ProgressMessage] = []
    pulled = client.images.pull(f"{registry.host}/sdk/pulled:v1", platform="linux/arm64", progress=said.append)
    assert pulled.architecture == "arm64"
    assert pulled.repo_tags == [f"{registry.host}/sdk/pulled:v1"]
    assert [message.status for message in said][-1] == f"Status: Downloaded newer image for {registry.host}/sdk/pulled:v1"
    client.images.remove(f"{registry.host}/sdk/pulled:v1")
    by_digest = client.images.pull(f"{registry.host}/sdk/pulled@{image.digest}", platform="linux/arm64")
    assert by_digest.id == pulled.id
    client.images.remove(by_digest.id, force=True)


def test_push_gives_the_digest(client, registry):
    client.images.tag("busybox", f"{registry.host}/sdk/pushed", "v1")
    digest = client.images.push(f"{registry.host}/sdk/pushed:v1")
    status, _, _ = registry.request(
        "HEAD", f"/v2/sdk/pushed/manifests/{digest}", headers={"Accept": f"{OCI_MANIFEST}, {DOCKER_MANIFEST}"}
    )
    assert status == 200
    client.images.remove(f"{registry.host}/sdk/pushed:v1")
    assert client.images.pull(f"{registry.host}/sdk/pushed:v1").id == client.images.inspect("busybox").id
    client.images.remove(f"{registry.host}/sdk/pushed:v1")


def test_what_can_not_be(client, registry):
    with pytest.raises(InvalidReference, match="must be lowercase"):
        client.images.pull("UPPER")
    with pytest.raises(InvalidReference, match="digest"):
        client.images.push(f"x@sha256:{'1' * 64}")
    with pytest.raises((StreamError, NotFound), match="not found"):
        client.images.pull(f"{registry.host}/sdk/none")
    with pytest.raises((StreamError, NotFound)):
        client.images.push(f"{registry.host}/sdk/none")


def test_a_login_is_this_clients_alone(client, daemon, tmp_path):
    with Registry(htpasswd=True) as protected:
        image = f"{protected.host}/sdk/secret:1"
        client.images.tag("busybox", f"{protected.host}/sdk/secret", "1")
        with pytest.raises(APIError, match=r"401 Unauthorized|authentication required"):
            client.login(USER, "wrong", protected.host)
        with pytest.raises(StreamError, match="no basic auth credentials"):
            client.images.push(image)
        assert client.login(USER, PASSWORD, protected.host).status == "Login Succeeded"
        client.images.push(image)
        with Client(daemon.host, config=str(tmp_path)) as other, pytest.raises(StreamError, match="no basic auth credentials"):
            other.images.push(image)
        assert list(tmp_path.iterdir()) == []
        client.images.remove(image)


def test_disk_usage(client):
    container = client.containers.create(CreateRequest(image="busybox", host_config=HostConfig(network_mode="none"))).id
    usage = client.df()
    assert container in [item.id for item in usage.containers]
    assert usage.layers_size > 1_000_000
    client.containers.remove(container)


class Index(BaseHTTPRequestHandler):
    """Docker's first search API, of which a registry may have one."""

    def do_GET(self) -> None:
        results = [
            {
                "name": "one",
                "description": "first\nline " + "x" * 60,
                "star_count": 3,
                "is_official": False,
                "is_automated": False,
            },
            {"name": "two", "description": "", "star_count": 70, "is_official": True, "is_automated": False},
        ]
        body = json.dumps({"num_results": 2, "query": self.path, "results": results}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_search(client, index):
    found = client.images.search(f"{index}/x", limit=10)
    assert sorted((item.name, item.star_count, item.is_official) for item in found) == [("one", 3, False), ("two", 70, True)]


@pytest.mark.parametrize(
    "args",
    [[], ["--no-trunc"], ["--format", "json"], ["--format", "{{.Name}} {{.IsOfficial}}|"], ["--format", "table {{.Name}}\\t{{.StarCount}}"],
     ["--limit", "1"], ["--limit", "1000"], ["--filter", "stars=5"], ["--filter", "is-official=true"], ["--filter", "x"], ["--filter", "x=y"]],
)  # fmt: skip
def test_search_says_the_same(daemon, index, args):
    said = []
    for program in ("docker", "boxship"):
        result = daemon.cli(program, "search", *args, f"{index}/x", code=None)
        said.append((result.returncode, result.stdout.decode(), result.stderr.decode().replace("boxship", "docker")))
    assert said[0] == said[1]
