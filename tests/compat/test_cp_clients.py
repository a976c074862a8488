"""``cp``, ``export``, ``diff`` and ``commit`` with Docker's command line and ours, docker-py and aiodocker.

What each form of ``cp`` makes is dockerd's, as found out with docker 28 on Debian's dockerd.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import aiodocker
import docker
import pytest
from conftest import needs_root
from support.daemon import Daemon

pytestmark = needs_root

CLIENTS = ("docker", "boxship")


@pytest.fixture
def work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def source(daemon: Daemon):
    """A container that doesn't run, with the files that are copied from it."""
    id_ = create(daemon)
    script = "mkdir -p /d/sub; echo one>/d/one; echo two>/d/sub/two; ln -s /d/one /link; ln -s /d /dlink; ln -s nowhere /broken"
    runner = daemon.cli("docker", "create", "--network", "none", "busybox", "sh", "-c", script).stdout.decode().strip()
    daemon.cli("docker", "start", "-a", runner)
    daemon.cli("docker", "rm", id_)
    yield runner
    daemon.cli("docker", "rm", runner)


def create(daemon: Daemon, *flags: str) -> str:
    flags = ("--network", "none", "--stop-signal", "KILL", *flags)
    return daemon.cli("docker", "create", *flags, "busybox", "sleep", "1000").stdout.decode().strip()


def listing(path: Path) -> set[str]:
    found = set()
    for directory, directories, names in os.walk(path):
        for name in (*directories, *names):
            full = Path(directory, name)
            shown = str(full.relative_to(path))
            found.add(f"{shown}->{os.readlink(full)}" if full.is_symlink() else shown + "/" * full.is_dir())
    return found


D = {"d/", "d/one", "d/sub/", "d/sub/two"}


def renamed(name: str) -> set[str]:
    return {name + path[1:] for path in D}


OUT = {
    "file": (["/d/one", "."], {"one"}),
    "file to a new name": (["/d/one", "./new"], {"new"}),
    "directory": (["/d", "."], D),
    "directory to a new name": (["/d", "new"], renamed("new")),
    "content to a new name": (["/d/.", "new"], renamed("new")),
    "content": (["/d/.", "."], {"one", "sub/", "sub/two"}),
    "slashes": (["/d/", "./new/"], renamed("new")),
    "into what is there": (["/d", "have"], {"have/"} | {f"have/{path}" for path in D}),
    "link": (["/link", "."], {"link->/d/one"}),
    "link, followed": (["-L", "/link", "."], {"link"}),
    "link to a directory, followed": (["-L", "/dlink", "."], renamed("dlink")),
    "link with a slash": (["/dlink/", "."], renamed("dlink")),
    "followed to a new name": (["-L", "/dlink", "new"], renamed("new")),
    "link to nothing": (["/broken", "."], {"broken->nowhere"}),
    "relative": (["d/one", "."], {"one"}),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("form", OUT)
def test_out(daemon, source, work, client, form):
    (*flags, path, target), expected = OUT[form]
    if target == "have":
        (work / "have").mkdir()
    daemon.cli(client, "cp", *flags, f"{source}:{path}", target)
    assert listing(work) == expected
    assert all((work / name).read_text() == "one\n" for name in expected & {"one", "new", "link", "d/one", "new/one"})


REFUSED_OUT = {
    "no such directory": (["/d/one", "./none/"], "no such directory"),
    "no such parent": (["/d/one", "./none/x"], "does not exist"),
    "a directory onto a file": (["/d", "file"], "cannot copy directory"),
    "a file onto a directory": (["/d/one", "dir"], 'cannot overwrite directory "'),
    "nothing there": (["/nope", "."], "Could not find the file /nope in container"),
    "a link to nothing, followed": (["-L", "/broken", "."], "Could not find the file /nowhere in container"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("form", REFUSED_OUT)
def test_out_refused(daemon, source, work, client, form):
    (*flags, path, target), message = REFUSED_OUT[form]
    (work / "file").touch()
    (work / "dir/one").mkdir(parents=True)
    before = listing(work)
    result = daemon.cli(client, "cp", *flags, f"{source}:{path}", target, code=1)
    assert message in result.stderr.decode()
    assert listing(work) == before


S = {"a", "dir/", "dir/b", "l->a", "ld->dir"}
IN = {
    "file": (["s/a", "/e"], {"a"}),
    "file, slash": (["s/a", "/e/"], {"a"}),
    "file to a new name": (["s/a", "/e/new"], {"new"}),
    "directory": (["s", "/e"], {"s/"} | {f"s/{path}" for path in S}),
    "content": (["s/.", "/e"], S),
    "directory to a new name": (["s", "/e/new"], {"new/"} | {f"new/{path}" for path in S}),
    "content to a new name": (["s/.", "/e/new"], {"new/"} | {f"new/{path}" for path in S}),
    "link": (["s/l", "/e"], {"l->a"}),
    "link, followed": (["-L", "s/l", "/e"], {"l"}),
    "link to a directory, followed": (["-L", "s/ld", "/e"], {"ld/", "ld/b"}),
    "link to a directory": (["s/ld", "/e"], {"ld->dir"}),
    "link with a slash": (["s/ld/", "/e"], {"ld/", "ld/b"}),
    "link with a dot": (["s/ld/.", "/e"], {"b"}),
    "through a link": (["s/a", "/elink"], {"a"}),
    "with owners": (["-a", "s/a", "/e"], {"a"}),
}


@pytest.mark.parametrize("client", CLIENTS)
def test_in(daemon, work, client):
    """All forms, running and not, into the root, a bind and a volume."""
    (work / "s/dir").mkdir(parents=True)
    (work / "s/a").write_text("a")
    (work / "s/dir/b").write_text("b")
    os.symlink("a", work / "s/l")
    os.symlink("dir", work / "s/ld")
    (work / "bind").mkdir()
    id_ = create(daemon, "-v", f"{work}/bind:/e")
    links = io.BytesIO()
    with tarfile.open(fileobj=links, mode="w") as archive:
        info = tarfile.TarInfo("elink")
        info.type, info.linkname = tarfile.SYMTYPE, "e"
        archive.addfile(info)
    daemon.cli(client, "cp", "-", f"{id_}:/", stdin=links.getvalue())
    for state in ("stopped", "running"):
        for form, ((*flags, path, target), expected) in IN.items():
            daemon.cli(client, "cp", *flags, path, f"{id_}:{target}")
            assert listing(work / "bind") == expected, (state, form)
            subprocess.run(["find", work / "bind", "-mindepth", "1", "-delete"], check=True)
        daemon.cli("docker", "start", id_)
    refusals = {
        ("s/a", "/e/no/such"): "Could not find the file /e/no in container",
        ("s/a", "/e/none/"): "no such directory",
        ("s", "/etc/passwd"): "cannot copy directory",
        ("s/none", "/e"): "no such file or directory",
    }
    for (path, target), message in refusals.items():
        assert message in daemon.cli(client, "cp", path, f"{id_}:{target}", code=1).stderr.decode()
    daemon.cli("docker", "rm", "-f", id_)


@pytest.mark.parametrize("client", CLIENTS)
def test_archives_through_pipes(daemon, source, work, client):
    out = daemon.cli(client, "cp", f"{source}:/d", "-").stdout
    with tarfile.open(fileobj=io.BytesIO(out)) as archive:
        assert archive.getnames() == ["d", "d/one", "d/sub", "d/sub/two"]
    id_ = create(daemon)
    daemon.cli(client, "cp", "-", f"{id_}:/tmp", stdin=out)
    assert daemon.cli(client, "cp", f"{id_}:/tmp/d", "-").stdout == out
    refused = daemon.cli(client, "cp", "-", f"{id_}:/etc/passwd", stdin=out, code=1)
    assert b"must be a directory" in refused.stderr
    daemon.cli("docker", "rm", id_)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "y"], "must specify at least one container source"),
        (["a:/x", "b:/y"], "copying between containers is not supported"),
        (["", "y"], "source can not be empty"),
        (["none:/x", "."], "No such container: none"),
    ],
)
def test_senseless(daemon, client, arguments, message):
    assert message in daemon.cli(client, "cp", *arguments, code=1).stderr.decode()


def test_what_ours_says(daemon, source, work):
    said = daemon.cli("boxship", "cp", "--quiet=false", f"{source}:/d/one", "new").stderr.decode()
    assert said == f"Successfully copied 2.05kB to {work}/new\n"
    assert daemon.cli("boxship", "cp", f"{source}:/d/one", "new").stderr == b""


@pytest.mark.parametrize("client", CLIENTS)
def test_diff_export_and_commit(daemon, source, work, client):
    changes = daemon.cli(client, "diff", source).stdout.decode().splitlines()
    assert changes == ["A /broken", "A /d", "A /d/one", "A /d/sub", "A /d/sub/two", "A /dlink", "A /link"]
    daemon.cli(client, "export", "-o", "root.tar", source)
    with tarfile.open("root.tar") as archive:
        assert {"d/one", "bin/busybox", "proc"} <= set(archive.getnames())
    assert daemon.cli(client, "export", source).stdout == (work / "root.tar").read_bytes()
    flags = ("-a", "author", "-m", "message", "-c", 'CMD ["cat", "/d/one"]', "--pause=false")
    id_ = daemon.cli(client, "commit", *flags, source, f"by-{client}:1").stdout.decode().strip()
    assert daemon.get(f"/images/by-{client}:1/json")["Id"] == id_
    assert daemon.cli(client, "run", "--rm", "--network", "none", f"by-{client}:1").stdout == b"one\n"
    daemon.cli(client, "rmi", f"by-{client}:1")


def test_docker_py(daemon, source):
    with contextlib.closing(docker.DockerClient(base_url=daemon.host)) as client:
        container = client.containers.get(source)
        pieces, stat = container.get_archive("/d")
        assert (stat["name"], stat["mode"] >> 31) == ("d", 1)
        archive = b"".join(pieces)
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            assert opened.extractfile("d/one").read() == b"one\n"
        other = client.containers.get(create(daemon))
        assert other.put_archive("/tmp", archive)
        assert {change["Path"] for change in other.diff()} >= {"/tmp/d", "/tmp/d/sub/two"}
        assert b"".join(other.export()).count(b"ustar") > 10
        image = other.commit("by-docker-py", "1", message="m", author="a", changes="ENV X=1", conf={"Cmd": ["true"]})
        assert image.tags == ["by-docker-py:1"]
        assert image.attrs["Config"]["Cmd"] == ["true"]
        assert "X=1" in image.attrs["Config"]["Env"]
        client.images.remove("by-docker-py:1")
        other.remove()
        with pytest.raises(docker.errors.NotFound, match="Could not find the file /none"):
            container.get_archive("/none")


async def test_aiodocker(daemon, source):
    async with aiodocker.Docker(url=daemon.host) as client:
        container = await client.containers.get(source)
        with await container.get_archive("/d") as archive:
            assert archive.extractfile("d/sub/two").read() == b"two\n"
        other = client.containers.container(create(daemon))
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w:gz") as packed:
            info = tarfile.TarInfo("hello")
            info.size = 5
            packed.addfile(info, io.BytesIO(b"world"))
        await other.put_archive("/tmp", data.getvalue())
        with await other.get_archive("/tmp/hello") as archive:
            assert archive.extractfile("hello").read() == b"world"
        made = await other.commit(repository="by-aiodocker", tag="1", changes="CMD true")
        assert (await client.images.inspect("by-aiodocker:1"))["Id"] == made["Id"]
        await client.images.delete("by-aiodocker:1")
        await other.delete()


def test_platforms_of_images(daemon):
    wanted = '{"os":"linux","architecture":"riscv64"}'
    for path in ("/images/busybox/json", "/images/busybox/history", "/images/busybox/get"):
        status, body = daemon.request("GET", f"/v1.51{path}?platform={wanted}")
        assert (status, "does not match the specified platform (linux/riscv64)" in body["message"]) == (404, True)
    status, body = daemon.request("DELETE", f"/v1.51/images/busybox?platforms={wanted}")
    assert status == 404, body
    saved = daemon.cli("docker", "save", "busybox").stdout
    refused = daemon.cli("boxship", "load", "--platform", "linux/riscv64", stdin=saved, code=1)
    assert b"linux/riscv64" in refused.stderr
    assert daemon.cli("boxship", "load", "--platform", "linux/amd64", stdin=saved).stdout
