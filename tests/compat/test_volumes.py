"""Volumes with the command lines and libraries that others have made for Docker, and with our own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiodocker
import docker
import pytest
from boxship import Client
from boxship.errors import APIError
from conftest import needs_root
from docker.errors import NotFound
from docker.types import Mount
from support.daemon import DOCKER, Daemon, needs_release
from support.daemons import running
from support.volumes import load_image

pytestmark = [
    needs_root,
    # docker-py leaves the sockets of its streams to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def said(daemon: Daemon, client: str, *words: str, code: int = 0) -> str:
    """What a command prints, errors included."""
    result = daemon.cli(client, *words, code=code)
    return (result.stdout + result.stderr).decode()


def run(daemon: Daemon, client: str, *words: str, code: int = 0) -> str:
    return said(daemon, client, "run", "--rm", "--network", "none", *words, code=code)


def test_the_commands(daemon, client):
    name = f"made-by-{client}"
    assert said(daemon, client, "volume", "create", "--label", "a=b", "--label", "c", name) == f"{name}\n"
    (shown,) = json.loads(said(daemon, client, "volume", "inspect", name))
    assert sorted(shown) == ["CreatedAt", "Driver", "Labels", "Mountpoint", "Name", "Options", "Scope"]
    assert (shown["Name"], shown["Driver"], shown["Labels"], shown["Options"]) == (name, "local", {"a": "b", "c": ""}, None)
    assert said(daemon, client, "inspect", "--type", "volume", "-f", "{{.Name}}", name) == f"{name}\n"
    table = said(daemon, client, "volume", "ls", "-f", f"name=^{name}$")
    assert re.fullmatch(rf"DRIVER +VOLUME NAME\nlocal +{name}\n", table)
    assert said(daemon, client, "volume", "ls", "-q", "-f", "label=c", "-f", f"name={name}") == f"{name}\n"
    assert said(daemon, client, "volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}", "-f", f"name={name}") == (
        f"{name} local local\n"
    )
    assert "get nobodys: no such volume" in said(daemon, client, "volume", "inspect", "nobodys", code=1)
    text = said(daemon, client, "volume", "rm", name, "nobodys", code=1)
    assert text.startswith(f"{name}\n")
    assert "Error response from daemon: get nobodys: no such volume" in text
    assert said(daemon, client, "volume", "rm", "-f", "nobodys") == "nobodys\n"
    nameless = said(daemon, client, "volume", "create").strip()
    assert re.fullmatch("[0-9a-f]{64}", nameless)
    text = said(daemon, client, "volume", "prune", "-f", "--filter", "label=com.docker.volume.anonymous")
    assert text.startswith("Deleted Volumes:\n")
    assert f"\n{nameless}\n" in text  # other tests' nameless ones are beside it
    assert text.endswith("Total reclaimed space: 0B\n")


def test_pruning_asks_first(daemon, client):
    nameless = said(daemon, client, "volume", "create", "--label", f"of={client}").strip()
    result = daemon.cli(client, "volume", "prune", stdin=b"n\n", code=None)
    assert result.stdout.startswith(b"WARNING! This will remove anonymous local volumes not used by at least one container.")
    assert nameless in said(daemon, client, "volume", "ls", "-q")
    result = daemon.cli(client, "volume", "prune", "--filter", f"label=of={client}", stdin=b"y\n")
    assert nameless.encode() in result.stdout


def test_what_is_refused(daemon, client):
    for words, message in (
        (["volume", "create", "a"], "create a: volume name is too short, names should be at least two alphanumeric characters"),
        (["volume", "create", "-o", "foo=bar", "xx"], 'create xx: invalid option: "foo"'),
        (["volume", "create", "-d", "nfs", "xx"], "create xx: error looking up volume plugin nfs"),
    ):
        assert message in said(daemon, client, *words, code=1)
    for words, message in (
        (["-v", "xx:/x:odd"], "invalid mode: odd"),
        (["-v", "xx$:/x"], 'create xx$: "xx$" includes invalid characters for a local volume name'),
        (["-v", "xx:/x", "-v", "/tmp:/x"], "Duplicate mount point: /x"),
        (["-v", "xx:/"], "destination can't be '/'"),
        (["--mount", "type=bind,src=/no/such,dst=/x"],
         'invalid mount config for type "bind": bind source path does not exist: /no/such'),
        (["--mount", "type=tmpfs,src=a,dst=/x"], 'invalid mount config for type "tmpfs": field Source must not be specified'),
        (["--mount", "type=volume,src=xx"], "target is required"),
        (["--volumes-from", "nobody"], "No such container: nobody"),
        (["--volume-driver", "nfs", "-v", "xx:/x"], "error looking up volume plugin nfs"),
    ):  # fmt: skip
        assert message in run(daemon, client, *words, "busybox", "true", code=125), words
    assert "xx" not in said(daemon, client, "volume", "ls", "-q").split()


def test_volumes_of_containers(daemon, client, tmp_path):
    name = f"data-{client}"
    assert run(daemon, client, "-v", f"{name}:/x", "busybox", "sh", "-c", "echo kept > /x/file") == ""
    assert run(daemon, client, "-v", f"{name}:/x:ro", "busybox", "cat", "/x/file") == "kept\n"
    assert "Read-only file system" in run(daemon, client, "-v", f"{name}:/x:ro", "busybox", "touch", "/x/y", code=1)
    mount = f"type=volume,source={name},target=/y,readonly,volume-nocopy"
    assert run(daemon, client, "--mount", mount, "busybox", "cat", "/y/file") == "kept\n"
    (tmp_path / "here").write_text("bound\n")
    mounts = ["-v", f"{name}:/x", "-v", "/nameless", "-v", f"{tmp_path}:/b:ro"]
    first = said(daemon, client, "create", "--network", "none", *mounts, "busybox", "true").strip()
    text = run(daemon, client, "--volumes-from", first, "busybox", "sh", "-c", "cat /x/file /b/here; ls -d /nameless")
    assert text == "kept\nbound\n/nameless\n"
    assert run(daemon, client, "--volumes-from", f"{first}:ro", "busybox", "touch", "/x/y", code=1)
    assert "volume is in use" in said(daemon, client, "volume", "rm", name, code=1)
    assert said(daemon, client, "ps", "-aq", "--no-trunc", "-f", f"volume={name}") == f"{first}\n"
    before = set(said(daemon, client, "volume", "ls", "-q").split())
    said(daemon, client, "rm", "-v", first)
    gone = before - set(said(daemon, client, "volume", "ls", "-q").split())
    assert len(gone) == 1
    assert re.fullmatch("[0-9a-f]{64}", gone.pop())
    said(daemon, client, "volume", "rm", name)


def test_binds_and_memory(daemon, client, tmp_path):
    missing = tmp_path / "made" / "for-it"
    run(daemon, client, "-v", f"{missing}:/x", "busybox", "touch", "/x/file")
    assert (missing / "file").exists()
    (tmp_path / "one").write_text("one\n")
    assert run(daemon, client, "-v", f"{tmp_path}/one:/etc/one:ro", "busybox", "cat", "/etc/one") == "one\n"
    text = run(daemon, client, "--tmpfs", "/t:size=3m,mode=1770,exec", "busybox", "sh", "-c", "grep ' /t ' /proc/mounts")
    assert re.match(r"tmpfs /t tmpfs rw,nosuid,nodev,relatime,size=3072k,mode=1770", text)
    text = run(
        daemon, client, "--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=700", "busybox", "grep", " /t ", "/proc/mounts"
    )
    assert re.match(r"tmpfs /t tmpfs rw,nosuid,nodev,noexec,relatime,size=2048k,mode=700", text)
    nested = ["-v", f"{tmp_path}:/a", "--tmpfs", "/a/made", "--mount", f"type=bind,src={tmp_path}/one,dst=/a/made/one,ro"]
    assert run(daemon, client, *nested, "busybox", "sh", "-c", "ls /a/made; cat /a/made/one") == "one\none\n"


def test_images_as_mounts(daemon, client):
    needs_release(client, 28)
    mount = "type=image,source=busybox,target=/i"
    assert run(daemon, client, "--mount", mount, "busybox", "sh", "-c", "ls -d /i/bin") == "/i/bin\n"
    assert "Read-only" in run(daemon, client, "--mount", mount, "busybox", "touch", "/i/x", code=1)
    assert run(daemon, client, "--mount", f"{mount},image-subpath=etc", "busybox", "ls", "/i") == "group\npasswd\n"


def test_declared_volumes(daemon, client):
    load_image(daemon, "declared:1", [], ["/etc", "/new"])
    ident = said(daemon, client, "create", "--network", "none", "declared:1", "ls", "/etc").strip()
    assert json.loads(said(daemon, client, "inspect", "-f", "{{json .Config.Volumes}}", ident)) == {"/etc": {}, "/new": {}}
    assert "passwd\n" in said(daemon, client, "start", "-a", ident)
    said(daemon, client, "rm", "-v", ident)


@pytest.fixture(scope="module")
def private() -> Iterator[Daemon]:
    """A daemon whose volumes are all this module's."""
    with running(Daemon()) as daemon:
        yield daemon


def test_system_prune_takes_volumes(private):
    kept = private.cli("boxship", "volume", "create", "kept").stdout
    nameless = private.cli("boxship", "volume", "create").stdout.decode()
    text = private.cli("boxship", "system", "prune", "-f", "--volumes").stdout.decode()
    assert f"Deleted Volumes:\n{nameless}" in text
    assert private.cli("boxship", "volume", "ls", "-q").stdout == kept
    result = private.cli("boxship", "system", "prune", "-f", "--volumes", "--filter", "until=1h", code=None)
    assert b'The "until" filter is not supported with "--volumes"' in result.stderr
    assert result.returncode
    private.cli("boxship", "volume", "rm", "kept")


def test_updates_are_swarms(daemon):
    status, answer = daemon.request("PUT", "/volumes/any", {})
    assert (status, answer["message"]) == (503, "volume update only valid for cluster volumes, but swarm is unavailable")


def test_older_clients_prune_named_volumes_too(private):
    private.request("POST", "/volumes/create", {"Name": "named"})
    assert private.request("POST", "/v1.42/volumes/prune")[1] == {"VolumesDeleted": [], "SpaceReclaimed": 0}
    assert private.request("POST", "/v1.41/volumes/prune")[1] == {"VolumesDeleted": ["named"], "SpaceReclaimed": 0}


def test_docker_py(daemon):
    client = docker.DockerClient(base_url=daemon.host)
    try:
        volume = client.volumes.create("python", labels={"by": "docker-py"})
        assert [found.name for found in client.volumes.list(filters={"label": "by=docker-py"})] == ["python"]
        client.containers.run("busybox", ["sh", "-c", "echo hello > /x/file"], volumes={"python": {"bind": "/x"}}, remove=True)
        mounts = [Mount("/y", "python", read_only=True, no_copy=True)]
        assert client.containers.run("busybox", ["cat", "/y/file"], mounts=mounts, remove=True) == b"hello\n"
        assert (Path(volume.attrs["Mountpoint"]) / "file").exists()
        volume.remove()
        with pytest.raises(NotFound):
            client.volumes.get("python")
        client.volumes.create()
        assert len(client.volumes.prune()["VolumesDeleted"]) >= 1
    finally:
        client.close()


async def test_aiodocker(daemon):
    async with aiodocker.Docker(url=daemon.host) as client:
        volume = await client.volumes.create({"Name": "async", "Labels": {"by": "aiodocker"}, "Driver": "local"})
        assert (await volume.show())["Labels"] == {"by": "aiodocker"}
        listed = await client.volumes.list(filters={"name": "async"})
        assert [found["Name"] for found in listed["Volumes"]] == ["async"]
        await volume.delete()
        with pytest.raises(aiodocker.DockerError) as caught:
            await volume.show()
        assert caught.value.status == 404


def test_our_own_library(daemon):
    with Client(daemon.host) as client:
        made = client.volumes.create("typed", labels={"a": "b"})
        assert client.volumes.inspect("typed") == made
        assert [volume.name for volume in client.volumes.list({"name": ["^typed$"]})] == ["typed"]
        client.volumes.remove("typed")
        with pytest.raises(APIError, match="get typed: no such volume"):
            client.volumes.remove("typed")
        client.volumes.remove("typed", force=True)
        nameless = client.volumes.create().name
        assert nameless in (client.volumes.prune().volumes_deleted or [])


def test_sources_relative_to_the_client(daemon, client, tmp_path):
    (tmp_path / "rel").mkdir()
    (tmp_path / "rel" / "file").write_text("relative\n")
    words = [*daemon.command(client), "run", "--rm", "--network", "none", "-v", "./rel:/x", "--mount", "type=bind,src=.,dst=/y"]
    env = daemon.env() | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    result = subprocess.run(
        [*words, "busybox", "cat", "/x/file", "/y/rel/file"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert result.stdout == b"relative\nrelative\n", result.stderr
