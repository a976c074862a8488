"""What ``system df`` tells, with Docker's own command line and docker-py as its readers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import docker
import pytest
from boxshipd.images import platform
from conftest import needs_root
from support.archives import SourceImage, files, oci_archive
from support.daemon import DOCKER, Daemon
from support.daemons import stocked

pytestmark = [needs_root, pytest.mark.skipif(DOCKER is None, reason="no docker command")]

HERE = platform.host().architecture
SHARED = files(shared=b"s" * 1000)


@pytest.fixture(scope="module")
def fresh() -> Iterator[Daemon]:
    """A daemon of its own with images, a container that has written, and volumes."""
    with stocked(Daemon()) as daemon:
        for name, own in (("one:1", b"1" * 500), ("two:1", b"2" * 300)):
            source = SourceImage([SHARED, files(own=own)], [name], "gzip", architecture=HERE)
            daemon.cli("docker", "load", stdin=oci_archive(source))
        daemon.cli("docker", "volume", "create", "unused")
        script = "head -c 3000 /dev/zero >/written; head -c 4000 /dev/zero >/v/kept"
        daemon.cli("docker", "run", "--network", "none", "--name", "writer", "-v", "used:/v", "busybox", "sh", "-c", script)
        yield daemon


def usage(daemon: Daemon, query: str = "") -> dict:
    status, body = daemon.request("GET", f"/v1.51/system/df{query}")
    assert status == 200
    return body


def test_every_field(fresh):
    found = usage(fresh)
    images = {row["RepoTags"][0]: row for row in found["Images"]}
    assert {
        name: (row["Size"], row["SharedSize"], row["Containers"]) for name, row in images.items() if name != "busybox:latest"
    } == {
        "one:1": (1500, 1000, 0),
        "two:1": (1300, 1000, 0),
    }
    busybox = images["busybox:latest"]
    assert (busybox["SharedSize"], busybox["Containers"]) == (0, 1)
    assert found["LayersSize"] == busybox["Size"] + 1800
    (container,) = found["Containers"]
    assert (container["Names"], container["SizeRootFs"] - container["SizeRw"]) == (["/writer"], busybox["Size"])
    assert container["SizeRw"] >= 3000
    volumes = {row["Name"]: row["UsageData"] for row in found["Volumes"]}
    assert (volumes["used"]["RefCount"], volumes["unused"]["RefCount"]) == (1, 0)
    assert volumes["used"]["Size"] >= 4000 > volumes["unused"]["Size"]
    assert found["BuildCache"] == []
    assert "BuilderSize" not in found


@pytest.mark.parametrize(
    ("kind", "there"),
    [("image", {"Images"}), ("container", {"Containers"}), ("volume", {"Volumes"}), ("build-cache", {"BuildCache"})],
)
def test_only_what_is_asked_for(fresh, kind, there):
    found = usage(fresh, f"?type={kind}")
    assert {key for key, value in found.items() if isinstance(value, list)} == there
    assert (found["LayersSize"] > 0) == (kind == "image")


def test_unknown_kinds_are_refused_and_old_clients_get_all(fresh):
    assert fresh.request("GET", "/v1.51/system/df?type=x") == (400, {"message": "unknown object type: x"})
    status, found = fresh.request("GET", "/v1.41/system/df?type=image")
    assert (status, found["BuilderSize"], len(found["Containers"])) == (200, 0, 1)


def test_docker_reads_it(fresh):
    rows = [json.loads(line) for line in fresh.cli("docker", "system", "df", "--format", "json").stdout.splitlines()]
    assert {row["Type"]: (row["TotalCount"], row["Active"]) for row in rows} == {
        "Images": ("3", "1"),
        "Containers": ("1", "0"),
        "Local Volumes": ("2", "1"),
        "Build Cache": ("0", "0"),
    }
    table = fresh.cli("docker", "system", "df", "-v").stdout.decode()
    assert "SHARED SIZE" in table
    assert "used" in table
    client = docker.DockerClient(fresh.host)
    try:
        assert len(client.df()["Images"]) == 3
    finally:
        client.close()
