"""``POST /build`` as Docker has it: what comes of parameters and contexts, and what is told of it."""

from __future__ import annotations

import bz2
import functools
import gzip
import http.server
import json
import lzma
import re
import subprocess
import threading

import pytest
import zstandard
from conftest import needs_root
from support.build_api import api, build, context, dockerfile

pytestmark = needs_root


def run(daemon, image, *command):
    return daemon.cli("docker", "run", "--rm", "--network", "none", image, *command).stdout.decode()


async def test_a_build_is_told_and_its_image_runs(daemon):
    answer = await build(
        daemon, dockerfile('FROM busybox\nCOPY a /a\nRUN cat /a > /b\nCMD ["cat", "/b"]\n', a="hello\n"), t=["one:1", "two"]
    )
    assert answer.status == 200
    assert answer.text.startswith("Step 1/4 : FROM busybox\n ---> ")
    assert answer.text.endswith(
        f"Successfully built {answer.image[7:19]}\nSuccessfully tagged one:1\nSuccessfully tagged two:latest\n"
    )
    assert run(daemon, "one:1") == run(daemon, "two") == run(daemon, answer.image) == "hello\n"
    assert daemon.get("/images/one:1/json")["Id"] == answer.image
    history = daemon.get("/images/one:1/history")
    assert [line["CreatedBy"].split()[0] for line in history] == ["CMD", "RUN", "COPY", "busybox"]


async def test_a_rebuild_is_the_same_image(daemon):
    body = dockerfile("FROM busybox\nCOPY a /same\nRUN cat /same\nENV x=y\n", a="same\n")
    first, second = await build(daemon, body), await build(daemon, body)
    assert first.image == second.image
    assert first.text.count("Using cache") == 0
    assert second.text.count("Using cache") == 2
    third = await build(daemon, body, nocache=1)
    assert third.text.count("Using cache") == 0


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
async def test_contexts_come_compressed_in_any_way(daemon, compress):
    body = compress(dockerfile("FROM scratch\nCOPY a /\n", a="x"))
    assert (await build(daemon, body)).status == 200


async def test_a_context_comes_in_pieces(daemon):
    body = dockerfile("FROM busybox\nCOPY big /\nRUN wc -c < /big\n", big=bytes(3_000_000))

    async def pieces():
        for offset in range(0, len(body), 100_000):
            yield body[offset : offset + 100_000]

    assert "3000000\n" in (await build(daemon, pieces())).text


async def test_the_dockerfile_may_be_anywhere_in_the_context(daemon):
    answer = await build(daemon, context({"x/y.Dockerfile": "FROM scratch\nCOPY x /\n"}), dockerfile="x/y.Dockerfile")
    assert answer.image
    answer = await build(daemon, context({"a": ""}))
    assert (answer.status, answer.error["message"]) == (400, "Cannot locate specified Dockerfile: Dockerfile")
    answer = await build(daemon, context({"a": ""}), dockerfile="../../etc/passwd")
    assert (answer.status, answer.error["message"]) == (400, "Cannot locate specified Dockerfile: ../../etc/passwd")


async def test_ignore_files_count_here_too(daemon):
    files = {
        "Dockerfile": "FROM busybox\nCOPY . /got/\nRUN find /got -type f | sort\n",
        ".dockerignore": "secret\n*.log\n!keep.log\n",
        "secret": "x",
        "a.log": "x",
        "keep.log": "x",
        "other": "x",
    }
    assert "/got/.dockerignore\n/got/Dockerfile\n/got/keep.log\n/got/other\n" in (await build(daemon, context(files))).text
    answer = await build(daemon, context({**files, "Dockerfile.dockerignore": "other\n.dockerignore\n"}))
    assert "/got/other" not in answer.text
    assert "/got/secret" in answer.text


async def test_parameters_reach_commands(daemon):
    text = (
        "FROM busybox AS base\nARG WORD=unset\nARG GONE=default\n"
        'RUN echo "word=$WORD gone=$GONE"; ulimit -n; df -k /dev/shm | tail -1; grep many /etc/hosts; ls /sys/class/net\n'
        "LABEL own=1\nFROM base\nRUN false\n"
    )
    answer = await build(
        daemon,
        dockerfile(text),
        target="base",
        buildargs=json.dumps({"WORD": "set", "GONE": None}),
        labels=json.dumps({"given": "2"}),
        ulimits=json.dumps([{"Name": "nofile", "Soft": 123, "Hard": 456}]),
        shmsize=8 << 20,
        extrahosts=["many:10.9.8.7"],
        networkmode="none",
        t="params",
    )
    assert answer.status == 200
    assert re.search(r"word=set gone=\S*\n123\nshm +8192 .*\n10\.9\.8\.7\s+many\nlo\n", answer.text), answer.text
    assert daemon.get("/images/params/json")["Config"]["Labels"] == {"given": "2", "own": "1"}


async def test_limits_are_commands_limits(daemon):
    limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    answer = await build(daemon, dockerfile(f"FROM busybox\nRUN {limit}; true\n"), memory=64 << 20, nocache=1)
    assert f"{64 << 20}\n" in answer.text


async def test_a_command_that_fails_is_told_with_its_code(daemon):
    answer = await build(daemon, dockerfile("FROM busybox\nRUN echo before; exit 7\n"))
    assert answer.status == 200
    assert "before\n" in answer.text
    assert answer.error == {"code": 7, "message": "The command '/bin/sh -c echo before; exit 7' returned a non-zero code: 7"}
    assert answer.documents[-1]["error"] == answer.error["message"]


async def test_quiet_builds_say_the_id_and_nothing_else(daemon):
    answer = await build(daemon, dockerfile("FROM busybox\nRUN echo loud\n"), q=1)
    assert [list(document) for document in answer.documents] == [["stream"]]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", answer.text)
    answer = await build(daemon, dockerfile("FROM busybox\nRUN echo reason; false\n"), q=1)
    assert "reason\n" in answer.text
    assert answer.error["code"] == 1


async def test_squashed_images_have_one_layer_more_than_their_base(daemon):
    text = "FROM busybox\nRUN echo 1 > /a; echo 2 > /gone\nRUN rm /gone; rm /etc/group\nRUN echo 3 > /c\n"
    whole = await build(daemon, dockerfile(text), t="unsquashed")
    one = await build(daemon, dockerfile(text), squash=1, t="squashed")
    base = len(daemon.get("/images/busybox/json")["RootFS"]["Layers"])
    assert len(daemon.get("/images/unsquashed/json")["RootFS"]["Layers"]) == base + 3
    assert len(daemon.get("/images/squashed/json")["RootFS"]["Layers"]) == base + 1
    listing = ("sh", "-c", "cat /a /c; ls /gone /etc/group 2>&1; true")
    assert run(daemon, whole.image, *listing) == run(daemon, one.image, *listing)
    assert [line["Size"] > 0 for line in daemon.get("/images/squashed/history")].count(True) == base + 1


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"version": "2"}, 501, "version=2"),
        ({"version": "3"}, 400, 'invalid version "3"'),
        ({"t": "UPPER"}, 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ({"buildargs": "xx"}, 400, "error reading build args"),
        ({"platform": "a/b/c/d"}, 400, "a/b/c/d"),
        ({"target": "nope"}, 400, "nope"),
        ({"isolation": "hyperv"}, 400, 'Unsupported isolation: "hyperv"'),
        ({"memory": "1"}, 400, "Minimum memory limit allowed is 6MB"),
        ({"cpuperiod": "1"}, 400, "CPU cfs period"),
        ({"extrahosts": "bogus"}, 400, 'bad format for add-host: "bogus"'),
        ({"remote": "gopher://x"}, 400, "could not be recognized as URL"),
        ({"remote": "http://127.0.0.1:1/x"}, 400, "error downloading remote context http://127.0.0.1:1/x"),
    ],
)
async def test_what_cannot_be_is_refused_before_the_stream_begins(daemon, query, status, message):
    answer = await build(daemon, dockerfile("FROM busybox\n"), **query)
    assert answer.status == status
    assert message in answer.error["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("FORM busybox\n", "FORM"), ("", "cannot be empty"), ("FROM busybox\nCOPY\n", "COPY"), ("RUN x\n", "")],
)
async def test_a_dockerfile_that_cannot_be_is_the_request_s_fault(daemon, text, message):
    answer = await build(daemon, dockerfile(text))
    assert answer.status == 400
    assert message in answer.error["message"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM busybox\nCOPY missing /\n", "missing"),
        ("FROM localhost:1/none\n", "localhost:1"),
        ("FROM busybox\nRUN --network=host true\n", "network.host"),
        ("FROM busybox\nRUN --mount=type=secret,id=s,required=true true\n", "secret"),
    ],
)
async def test_what_fails_later_is_told_in_the_stream(daemon, text, message):
    answer = await build(daemon, dockerfile(text))
    assert answer.status == 200
    assert message in answer.error["message"]


@pytest.mark.parametrize("body", [b"hi\n", b"\x1f\x8bgarbage", bytes(10), dockerfile("FROM busybox\n")[:515]])
async def test_what_is_no_archive_is_refused(daemon, body):
    answer = await build(daemon, body)
    assert answer.status == 400
    assert answer.error["message"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def served(tmp_path):
    """A directory, and the URL that it is served at."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_contexts_come_from_urls(daemon, served):
    directory, base = served
    (directory / "plain").write_text("FROM busybox\nRUN echo by url\n")
    assert "by url\n" in (await build(daemon, b"", remote=f"{base}/plain", nocache=1)).text
    (directory / "context.tgz").write_bytes(
        gzip.compress(context({"x/D": "FROM busybox\nCOPY a /\nRUN cat /a\n", "a": "arch\n"}))
    )
    answer = await build(daemon, b"", remote=f"{base}/context.tgz", dockerfile="x/D", nocache=1)
    assert "arch\n" in answer.text
    (directory / "page.html").write_text("<html></html>")
    for name, words in (("page.html", "neither an archive nor a Dockerfile"), ("absent", "404")):
        answer = await build(daemon, b"", remote=f"{base}/{name}")
        assert answer.status == 400
        assert words in answer.error["message"]


@pytest.fixture
def repository(served):
    """A repository's URL, with a project in its directory ``sub``."""
    directory, base = served
    made = directory / "repo"
    (made / "sub").mkdir(parents=True)
    (made / "sub" / "Dockerfile").write_text("FROM busybox\nCOPY a /\nRUN cat /a\n")
    (made / "sub" / "a").write_text("from git\n")
    git = ("git", "-c", "user.name=x", "-c", "user.email=y", "-C", str(made))
    for command in ("init -q -b main", "add .", "commit -qm x", "clone -q --bare . ../r.git"):
        subprocess.run([*git, *command.split()], check=True)
    subprocess.run(["git", "-C", str(directory / "r.git"), "update-server-info"], check=True)
    return f"{base}/r.git"


async def test_contexts_come_from_repositories(daemon, repository):
    answer = await build(daemon, b"", remote=f"{repository}#main:sub", nocache=1)
    assert "from git\n" in answer.text
    answer = await build(daemon, b"", remote=f"{repository}#nothing:sub")
    assert "nothing" in answer.error["message"]


async def test_long_parameters_fit(daemon):
    labels = {f"label{number}": "x" * 100 for number in range(2000)}
    answer = await build(daemon, dockerfile("FROM busybox\n"), labels=json.dumps(labels), t="labelled")
    assert answer.status == 200
    assert daemon.get("/images/labelled/json")["Config"]["Labels"] == labels


async def test_events_tell_of_builds(daemon):
    await build(daemon, dockerfile("FROM busybox\nENV a=events\n"), t=["ev:1", "ev:2"])
    async with api(daemon) as session:
        async with session.post("/build/prune?all=1") as answer:
            assert set(await answer.json()) == {"CachesDeleted", "SpaceReclaimed"}
        now = daemon.get("/info")["SystemTime"]
        async with session.get(
            "/events", params={"since": "5m", "until": now, "filters": '{"type":["image","builder"]}'}
        ) as answer:
            events = [json.loads(line) for line in (await answer.text()).splitlines()]
    told = [(event["Type"], event["Action"], event["Actor"]["Attributes"].get("name", "")) for event in events]
    assert ("image", "tag", "ev:1") in told
    assert ("image", "tag", "ev:2") in told
    assert told[-1][:2] == ("builder", "prune")


async def test_pruning_says_what_it_does_not_know(daemon):
    async with api(daemon) as session:
        async with session.post("/build/prune?keep-storage=abc") as answer:
            assert answer.status == 400
            assert (await answer.json())[
                "message"
            ] == "keep-storage is in bytes and expects an integer, got abc: invalid syntax"
        async with session.post('/build/prune?filters={"bogus":["1"]}') as answer:
            assert answer.status == 400


async def test_a_build_is_cancelled_by_its_id(daemon):
    async with api(daemon) as session:
        async with session.post("/build/cancel") as answer:
            assert (answer.status, (await answer.json())["message"]) == (400, "build ID not provided")
        async with session.post("/build/cancel?id=nobody") as answer:
            assert answer.status == 200
        body = dockerfile("FROM busybox\nRUN echo started; sleep 1000\n")
        async with session.post("/build?buildid=mine&nocache=1", data=body) as building:
            text = b""
            while b"started" not in text:
                text += await building.content.readany()
            async with session.post("/build/cancel?id=mine") as answer:
                assert answer.status == 200
            text += await building.content.read()
    assert json.loads(text.splitlines()[-1])["error"] == "the build was cancelled"


async def test_accounts_that_cannot_be_read_are_none(daemon):
    answer = await build(daemon, dockerfile("FROM busybox\n"), headers={"X-Registry-Config": "@@@"})
    assert answer.image
