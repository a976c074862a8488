"""The build cache as clients meet it: hits, what goes by pruning, and cache that goes to other daemons."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.daemons import stocked
from support.git_server import GitServer, Repository
from support.registry import REGISTRY, Registry

pytestmark = needs_root

DOCKERFILE = """
FROM busybox AS tool
RUN echo tool > /tool; cat /proc/sys/kernel/random/uuid > /random
FROM busybox
RUN cat /proc/sys/kernel/random/uuid > /own
COPY --from=tool /tool /random /from/
COPY file /file
"""

STEPS = 5
"""The base image included, which is one for both stages."""


def build(daemon: Daemon, directory: Path, *flags: str) -> str:
    """Build; what was said."""
    done = daemon.cli("boxship", "build", "--progress=plain", *flags, str(directory))
    return done.stderr.decode() + done.stdout.decode()


def project(tmp_path: Path, content: str = "one", dockerfile: str = DOCKERFILE) -> Path:
    directory = tmp_path / "project"
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(dockerfile)
    (directory / "file").write_text(content)
    return directory


def cached(said: str) -> int:
    return sum(line.endswith(" CACHED") for line in said.splitlines())


def image_id(daemon: Daemon, name: str) -> str:
    return daemon.get(f"/images/{name}/json")["Id"]


def layers(daemon: Daemon, name: str) -> list[str]:
    return daemon.get(f"/images/{name}/json")["RootFS"]["Layers"]


@pytest.fixture
def other() -> Iterator[Daemon]:
    """A daemon that has built nothing."""
    with stocked(Daemon()) as daemon:
        yield daemon


def test_hits_survive_the_daemon_and_depend_on_content(own_daemon: Daemon, tmp_path):
    directory = project(tmp_path)
    assert cached(build(own_daemon, directory, "-t", "first")) == 0
    first = image_id(own_daemon, "first")
    os.utime(directory / "file", (1, 1))
    assert cached(build(own_daemon, directory, "-t", "again")) == STEPS
    assert image_id(own_daemon, "again") == first
    assert own_daemon.terminate() == 0
    own_daemon.start()
    assert cached(build(own_daemon, directory, "-t", "later")) == STEPS
    assert image_id(own_daemon, "later") == first
    assert cached(build(own_daemon, project(tmp_path, "two"))) == STEPS - 1


def test_usage_and_pruning(own_daemon: Daemon, tmp_path):
    build(own_daemon, project(tmp_path), "-t", "mine")
    listed = own_daemon.get("/system/df")["BuildCache"]
    assert {record["Type"] for record in listed} == {"regular"}
    assert not any(record["InUse"] for record in listed)
    by_step = {record["Description"].partition("] ")[2]: record for record in listed}
    tool, copy = by_step["RUN echo tool > /tool; cat /proc/sys/kernel/random/uuid > /random"], by_step["COPY file /file"]
    assert (tool["Shared"], copy["Shared"]) == (False, True)
    assert tool["UsageCount"] == 1
    assert tool["Size"] > 0
    # What the image has stays, and with it what its layers were made of.
    status, answer = own_daemon.request("POST", "/build/prune", None)
    assert (status, answer) == (200, {"CachesDeleted": None, "SpaceReclaimed": 0})
    status, answer = own_daemon.request("POST", "/build/prune?all=1", None)
    assert status == 200
    assert sorted(answer["CachesDeleted"]) == sorted(record["ID"] for record in listed)
    assert answer["SpaceReclaimed"] == sum(record["Size"] for record in listed)
    assert own_daemon.get("/system/df")["BuildCache"] == []
    assert own_daemon.cli("docker", "run", "--rm", "--network=none", "mine", "cat", "/from/tool").stdout == b"tool\n"
    own_daemon.cli("docker", "rmi", "mine")
    assert len(os.listdir(own_daemon.data_root / "snapshots")) == len(layers(own_daemon, "busybox"))


def test_an_image_may_go_and_its_cache_stays(own_daemon: Daemon, tmp_path):
    directory = project(tmp_path)
    build(own_daemon, directory, "-t", "mine")
    first = image_id(own_daemon, "mine")
    own_daemon.cli("docker", "rmi", "mine")
    assert cached(build(own_daemon, directory, "-t", "mine")) == STEPS
    assert image_id(own_daemon, "mine") == first


def test_cache_mounts_are_listed_and_pruned(own_daemon: Daemon, tmp_path):
    text = "FROM busybox\nARG N\nRUN --mount=type=cache,target=/c echo $N >> /c/log; cp /c/log /log\n"
    directory = project(tmp_path, dockerfile=text)
    for number in ("1", "2"):
        build(own_daemon, directory, "--build-arg", f"N={number}", "-t", "mounted")
    assert own_daemon.cli("docker", "run", "--rm", "--network=none", "mounted", "cat", "/log").stdout == b"1\n2\n"
    (mount,) = [each for each in own_daemon.get("/system/df")["BuildCache"] if each["Type"] == "exec.cachemount"]
    assert mount["UsageCount"] == 2
    filters = json.dumps({"type": ["exec.cachemount"]})
    status, answer = own_daemon.request("POST", f"/build/prune?filters={filters}".replace('"', "%22").replace(" ", ""), None)
    assert (status, answer["CachesDeleted"]) == (200, [mount["ID"]])
    build(own_daemon, directory, "--build-arg", "N=3", "-t", "mounted")
    assert own_daemon.cli("docker", "run", "--rm", "--network=none", "mounted", "cat", "/log").stdout == b"3\n"


async def test_downloads_and_checkouts_are_listed_and_pruned_by_type(own_daemon: Daemon, tmp_path):
    server = GitServer(tmp_path / "served")
    server.root.mkdir()
    repository = Repository(tmp_path / "work", server.root / "project.git")
    commit = repository.commit({"file": "checked out\n"})
    repository.publish()
    await server.start()
    try:
        text = f"FROM busybox\nADD {server.url}/project.git /src\nADD {server.url}/project.git/HEAD /head\n"
        directory = project(tmp_path, dockerfile=text)
        await asyncio.to_thread(build, own_daemon, directory)
        kept = {
            f"git snapshot for {server.url}/project.git#{commit}": "source.git.checkout",
            f"http url {server.url}/project.git/HEAD": "regular",
        }
        listed = {each["Description"]: each for each in own_daemon.get("/system/df")["BuildCache"]}
        assert {name: listed[name]["Type"] for name in kept} == kept
        assert all(listed[name]["Size"] > 0 and not listed[name]["InUse"] for name in kept)
        shown = (await asyncio.to_thread(own_daemon.cli, "boxship", "system", "df", "-v")).stdout
        for name in kept:
            assert listed[name]["ID"][:12].encode() in shown
        pruned = ("boxship", "builder", "prune", "-f", "--filter", "type=source.git.checkout")
        said = (await asyncio.to_thread(own_daemon.cli, *pruned)).stdout.decode()
        ids = {kind: listed[name]["ID"] for name, kind in kept.items()}
        assert (ids["source.git.checkout"] in said, ids["regular"] in said) == (True, False)
        assert os.listdir(own_daemon.data_root / "build/repositories") == []
        own_daemon.kill()
        own_daemon.start()
        assert ids["regular"] in {each["ID"] for each in own_daemon.get("/system/df")["BuildCache"]}
        await asyncio.to_thread(own_daemon.cli, "boxship", "builder", "prune", "-f", "-a")
        assert own_daemon.get("/system/df")["BuildCache"] == []
        assert os.listdir(own_daemon.data_root / "build/downloads") == []
        assert "CACHED" not in await asyncio.to_thread(build, own_daemon, directory)
    finally:
        await server.stop()


def test_cache_in_a_directory(own_daemon: Daemon, other: Daemon, tmp_path):
    directory = project(tmp_path)
    there = tmp_path / "cache"
    build(own_daemon, directory, "-t", "mine", "--cache-to", f"type=local,dest={there},mode=max")
    assert (there / "index.json").is_file()
    said = build(other, directory, "-t", "mine", "--cache-from", f"type=local,src={there}")
    assert cached(said) == STEPS
    assert layers(other, "mine") == layers(own_daemon, "mine")
    assert other.cli("docker", "run", "--rm", "--network=none", "mine", "cat", "/from/tool").stdout == b"tool\n"


@pytest.mark.skipif(REGISTRY is None, reason="no docker-registry")
def test_cache_in_a_registry_and_in_an_image_of_it(own_daemon: Daemon, other: Daemon, tmp_path):
    directory = project(tmp_path)
    with Registry() as registry:
        build(own_daemon, directory, "-t", "mine", "--cache-to", f"type=registry,ref={registry.host}/mine:cache,mode=max")
        said = build(other, directory, "-t", "mine", "--cache-from", f"type=registry,ref={registry.host}/mine:cache")
        assert cached(said) == STEPS
        assert layers(other, "mine") == layers(own_daemon, "mine")
        other.cli("docker", "rmi", "mine")
        # Of an image, what its own layers are; the other stage is built again, and is another, as it is random.
        name = f"{registry.host}/mine:inline"
        build(own_daemon, directory, "-t", name, "--push", "--cache-to", "type=inline")
        said = build(other, directory, "-t", "mine", "--cache-from", name)
        assert cached(said) == 2
        # Images that are here count as well.
        own_daemon.request("POST", "/build/prune?all=1", None)
        assert cached(build(own_daemon, directory, "--cache-from", name)) == 2


def test_too_much_goes_by_itself(tmp_path):
    configuration = tmp_path / "daemon.json"
    configuration.write_text(json.dumps({"builder": {"gc": {"policy": [{"all": True, "maxUsedSpace": "3MB"}]}}}))
    with stocked(Daemon("--config-file", str(configuration))) as daemon:
        for number in range(4):
            text = f"FROM busybox\nRUN head -c 700000 /dev/urandom > /{number}\n"
            build(daemon, project(tmp_path, dockerfile=text))
            daemon.cli("docker", "image", "prune", "-f")
        # It is looked at after builds, and what images have isn't counted.
        build(daemon, project(tmp_path, dockerfile="FROM busybox\n"))

        # One is of 1.4 MB: its file, and its archive.
        def own() -> list[int]:
            return [record["Size"] for record in daemon.get("/system/df")["BuildCache"] if not record["Shared"]]

        wait_until(lambda: len(own()) == 2, "what is too much has gone")
        assert sum(own()) in range(2_500_000, 3 << 20)


def test_rules_that_cannot_be_are_refused(tmp_path):
    configuration = tmp_path / "daemon.json"
    configuration.write_text(json.dumps({"builder": {"gc": {"policy": [{"filter": ["label=x"]}]}}}))
    done = subprocess.run(
        [sys.executable, "-m", "boxshipd.main", "--config-file", str(configuration), "--validate"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "invalid filter 'label'" in done.stderr
