"""Disk usage and images by platform, with Docker's command line and with ours: the same, character for character."""

from __future__ import annotations

import os
import re

import pytest
from support.cli import Client
from support.daemon import DOCKER, Daemon
from support.daemons import stocked
from support.registry import REGISTRY, Registry
from support.remote_images import OCI_INDEX, RemoteImage, index, layer
from support.terminal import Terminal

pytestmark = [
    pytest.mark.skipif(DOCKER is None, reason="no docker command"),
    pytest.mark.skipif(REGISTRY is None, reason="no docker-registry"),
]
AGES = re.compile(r"(\d+ seconds?|Less than a second|About a minute|\d+ minutes?)( ago)? *")


@pytest.fixture
def clients(own_objects, tmp_path) -> tuple[Client, Client]:
    return Client(own_objects, "docker", tmp_path / "one"), Client(own_objects, "boxship", tmp_path / "two")


@pytest.fixture(scope="module")
def own_objects():
    """A daemon with images of several platforms, containers in several states and a volume."""
    with stocked(Daemon()) as daemon:
        with Registry() as registry:
            images = [RemoteImage([layer({"etc/cpu": cpu.encode() * 1000})], architecture=cpu, variant=variant)
                      for cpu, variant in (("amd64", ""), ("arm64", "v8"))]  # fmt: skip
            for image in images:
                image.put(registry, "team/app", image.architecture)
            registry.put_manifest("team/app", "all", index(*images), OCI_INDEX)
            daemon.cli("boxship", "pull", "-q", f"{registry.host}/team/app:all")
        daemon.cli("boxship", "tag", "busybox", "second:v1")
        container = daemon.cli("boxship", "create", "--network", "none", "busybox", "true").stdout.decode().strip()
        daemon.cli("boxship", "commit", container)
        daemon.cli("boxship", "run", "-d", "--name", "busy", "--network", "none", "-v", "vol:/v", "busybox",
                   "sh", "-c", "echo 12345 >/v/f; echo 1 >/g; sleep 1000")  # fmt: skip
        yield daemon


def alike(clients: tuple[Client, Client], *args: str, code: int = 0) -> str:
    docker, boxship = (tuple(AGES.sub("", text) for text in client.both(*args, code=code)) for client in clients)
    assert boxship == docker
    return boxship[0]


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["-v"],
        ["--format", "json"],
        ["--format", "raw"],
        ["--format", "table"],
        ["--format", "table {{.Type}}\\t{{.Size}}"],
        ["--format", "{{.Type}}|{{.Reclaimable}}"],
        ["-v", "--format", "raw"],
        ["-v", "--format", "{{range .Images}}{{.ID}} {{.UniqueSize}} {{end}}{{range .Volumes}}{{.Name}} {{.Links}}{{end}}"],
    ],
)
def test_disk_usage(clients, args):
    # Ages that grow meanwhile make columns wider.
    said = [re.sub(r" +", " ", AGES.sub("", client("system", "df", *args))) for client in clients]
    assert said[1] == said[0]


def test_disk_usage_as_json(clients):
    said = [
        re.sub(r'"(CreatedSince|RunningFor|Status)":"[^"]*"', "", c("system", "df", "-v", "--format", "json")) for c in clients
    ]
    assert said[0] == said[1]


@pytest.mark.parametrize("args", [[], ["-a"], ["second"], ["nothing"], ["--filter", "dangling=true"]])
def test_the_tree(clients, args):
    alike(clients, "images", "--tree", *args)


@pytest.mark.parametrize("flag", ["-q", "--no-trunc", "--digests", "--format=json"])
def test_what_the_tree_has_not(clients, flag):
    alike(clients, "images", "--tree", flag, code=1)


@pytest.mark.parametrize("width", [200, 100, 60, 40, 20, 10])
def test_the_tree_on_a_terminal(clients, width):
    shown = []
    for client in clients:
        terminal = Terminal([*client.daemon.command(client.name), "images", "--tree"], client.env, columns=width)
        terminal.process.wait(30)
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += os.read(terminal.master, 65536)
        assert terminal.end() == 0
        shown.append(data)
    assert shown[1].decode().splitlines() == shown[0].decode().splitlines()


@pytest.mark.parametrize(
    "args",
    [
        ["rmi", "--platform", "linux/s390x", "busybox"],
        ["history", "--platform", "linux/s390x", "busybox"],
        ["save", "--platform", "linux/s390x", "busybox"],
        ["image", "inspect", "--platform", "linux/s390x", "busybox"],
        ["rmi", "--platform", "a/b/c/d", "busybox"],
        ["create", "--pull", "never", "--platform", "linux/s390x", "busybox"],
    ],
)
def test_platforms_that_are_not_there(clients, args):
    alike(clients, *args, code=1)


@pytest.mark.parametrize("args", [["history"], ["image", "inspect"]])
def test_platforms_that_are(clients, args):
    assert alike(clients, *args, "--platform", "linux/amd64", "busybox")
