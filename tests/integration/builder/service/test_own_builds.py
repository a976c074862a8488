"""``POST /build?version=boxship``: requests of our own, with sessions that supply files and secrets and take archives."""

from __future__ import annotations

import json
import subprocess

import aiohttp
import pytest
from conftest import needs_root
from support.build_api import (
    SessionClient,
    api,
    build_ours,
    content,
    context,
    dockerfile,
    document,
    logs,
    members,
)

pytestmark = needs_root


def supplied(text: str, **files: str | bytes) -> dict[str, bytes]:
    """A session with a context."""
    return {"context context": dockerfile(text, **files)}


async def test_progress_comes_as_it_is(daemon):
    answer = await build_ours(
        daemon, {"tags": ["own:1"]}, supplied("FROM busybox\nCOPY a /a\nRUN cat /a; echo no >&2\n", a="yes\n")
    )
    assert answer.status == 200
    steps = answer.vertices()
    run = next(vertex for name, vertex in steps.items() if name.endswith("RUN cat /a; echo no >&2"))
    assert 0 < run["started"] < run["completed"]
    assert run["inputs"]
    assert logs(answer) == b"yes\n"
    assert answer.documents[-1]["id"] == "boxship.build.result"
    image = daemon.get("/images/own:1/json")
    assert answer.image == image["Id"] == answer.metadata["containerimage.config.digest"]
    assert answer.metadata["image.name"] == "docker.io/library/own:1"
    assert answer.metadata["containerimage.digest"] == answer.metadata["containerimage.descriptor"]["digest"]
    again = await build_ours(daemon, {}, supplied("FROM busybox\nCOPY a /a\nRUN cat /a; echo no >&2\n", a="yes\n"))
    assert next(v for name, v in again.vertices().items() if "RUN cat" in name)["cached"]


async def test_the_dockerfile_may_come_with_the_request(daemon):
    client = SessionClient({})
    request = {"text": "FROM busybox\nRUN echo alone\n", "tags": ["textual"]}
    answer = await build_ours(daemon, request, client=client)
    assert answer.image
    assert client.asked == [], "a build that needs no files asks for none"
    async with api(daemon) as session, session.post("/build?version=boxship", json=request) as plain:
        assert json.loads((await plain.text()).splitlines()[-1])["aux"]["ID"] == answer.image


async def test_named_contexts_and_secrets_come_from_the_client(daemon):
    text = (
        "FROM busybox\nCOPY --from=docs readme /\n"
        "RUN --mount=type=secret,id=token cat /run/secrets/token /readme; echo > /made\nRUN ls /run/secrets /made 2>&1; true\n"
    )
    supplies = {"context docs": context({"readme": "read me\n"}), "secret token": b"swordfish\n"}
    answer = await build_ours(daemon, {"text": text, "contexts": {"docs": "input:docs"}}, supplies)
    assert b"swordfish\nread me\n" in logs(answer)
    assert b"swordfish" not in logs(await build_ours(daemon, {"text": text, "contexts": {"docs": "input:docs"}}, supplies))


async def test_what_the_client_does_not_have_fails_the_build(daemon):
    answer = await build_ours(daemon, {"text": "FROM busybox\nRUN --mount=type=secret,id=none,required=true true\n"})
    assert "none" in answer.error["message"]
    answer = await build_ours(daemon, {"text": "FROM busybox\nCOPY a /\n"})
    assert "there is none" in answer.error["message"]


async def test_an_agent_is_the_client_s(daemon):
    # A client that answers with what it was asked shows that both directions work.
    text = (
        "FROM busybox\nRUN --mount=type=ssh,id=work,target=/agent.sock "
        "echo $SSH_AUTH_SOCK; ls -l /agent.sock | cut -c1; echo ping | nc -w 1 local:/agent.sock; true\n"
    )
    client = SessionClient({})
    answer = await build_ours(daemon, {"text": text}, client=client)
    assert answer.image
    assert b"/agent.sock\ns\n" in logs(answer)


@pytest.mark.parametrize("kind", ["oci", "docker"])
async def test_images_go_to_the_client_as_archives(daemon, kind):
    client = SessionClient(supplied("FROM busybox\nCOPY a /a\nCMD x\n", a="inside"))
    answer = await build_ours(daemon, {"outputs": [{"type": kind, "attrs": {"name": f"arch:{kind}"}}]}, client=client)
    archive = client.received["0"]
    index = json.loads(content(archive, "index.json"))
    manifest = document(archive, index["manifests"][0]["digest"])
    types = {
        "oci": "application/vnd.oci.image.manifest.v1+json",
        "docker": "application/vnd.docker.distribution.manifest.v2+json",
    }
    assert manifest["mediaType"] == types[kind]
    assert index["manifests"][0]["digest"] == answer.metadata["containerimage.digest"]
    assert daemon.request("GET", f"/images/arch:{kind}/json")[0] == 404
    assert f"Loaded image: arch:{kind}" in daemon.cli("docker", "load", stdin=archive).stdout.decode()
    assert daemon.get(f"/images/arch:{kind}/json")["Id"] == answer.image


async def test_files_go_to_the_client_as_an_archive(daemon):
    text = "FROM scratch\nCOPY --chown=5:6 a /d/a\nCOPY a /b\nFROM scratch\nCOPY --from=0 / /\nCOPY c /\n"
    client = SessionClient(supplied(text, a="A", c="C"))
    answer = await build_ours(daemon, {"outputs": [{"type": "tar"}, {"type": "local"}]}, client=client)
    assert answer.status == 200
    assert answer.documents[-1]["aux"].get("ID", "") == ""
    for archive in client.received.values():
        found = members(archive)
        assert {name: member.size for name, member in found.items() if member.isfile()} == {"b": 1, "c": 1, "d/a": 1}
        assert (found["d/a"].uid, found["d/a"].gid) == (5, 6)
    assert list(client.received) == ["0", "1"]


async def test_two_builds_of_one_input_on_empty_caches_are_the_same_to_the_byte(daemon):
    text = "FROM busybox\nARG SOURCE_DATE_EPOCH\nCOPY a /a\nRUN echo made > /made; mkdir /d; ln /made /d/linked\nENV x=y\n"
    request = {
        "no_cache": True,
        "build_args": {"SOURCE_DATE_EPOCH": "1000000000"},
        "outputs": [{"type": "oci", "attrs": {"rewrite-timestamp": "true"}}],
    }
    archives = []
    for _ in range(2):
        client = SessionClient(supplied(text, a="x"))
        answer = await build_ours(daemon, request, client=client)
        assert answer.status == 200
        archives.append((answer.metadata["containerimage.digest"], client.received["0"]))
    assert archives[0][0] == archives[1][0]
    assert archives[0][1] == archives[1][1]
    manifest = document(archives[0][1], archives[0][0])
    config = document(archives[0][1], manifest["config"]["digest"])
    assert config["created"] == "2001-09-09T01:46:40Z"
    layer = content(archives[0][1], "blobs/" + manifest["layers"][-1]["digest"].replace(":", "/"))
    assert {member.mtime for member in members(layer).values()} == {1000000000}


@pytest.mark.parametrize(
    ("attrs", "suffix", "magic"),
    [
        ({"compression": "zstd"}, "+zstd", b"\x28\xb5\x2f\xfd"),
        ({"compression": "zstd", "compression-level": "19"}, "+zstd", b"\x28\xb5\x2f\xfd"),
        ({"compression": "gzip", "compression-level": "9"}, "+gzip", b"\x1f\x8b"),
        ({"compression": "uncompressed"}, "", b""),
        ({"compression": "zstd", "force-compression": "true"}, "+zstd", b"\x28\xb5\x2f\xfd"),
        ({"compression": "zstd", "oci-mediatypes": "false"}, ".zstd", b"\x28\xb5\x2f\xfd"),
    ],
)
async def test_layers_are_compressed_as_wanted(daemon, attrs, suffix, magic):
    client = SessionClient(supplied("FROM busybox\nCOPY a /a\n", a="x" * 10000))
    answer = await build_ours(daemon, {"outputs": [{"type": "oci", "attrs": attrs}]}, client=client)
    archive = client.received["0"]
    layers = document(archive, answer.metadata["containerimage.digest"])["layers"]
    assert layers[-1]["mediaType"].endswith("tar" + suffix)
    blob = content(archive, "blobs/" + layers[-1]["digest"].replace(":", "/"))
    assert blob.startswith(magic)
    if "force-compression" in attrs:
        assert all(layer["mediaType"].endswith("+zstd") for layer in layers)
    if suffix != ".zstd":
        daemon.cli("docker", "load", stdin=archive)


async def test_several_platforms_are_one_index(daemon):
    text = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /arch\n"
    client = SessionClient(supplied(text, amd64="A", arm64="B"))
    outputs = [{"type": "oci"}, {"type": "local"}, {"type": "image"}]
    request = {"platforms": ["linux/amd64", "linux/arm64"], "outputs": outputs, "tags": ["multi:1"]}
    answer = await build_ours(daemon, request, client=client)
    archive = client.received["0"]
    index = document(archive, answer.metadata["containerimage.digest"])
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    files = members(client.received["1"])
    assert {name for name, member in files.items() if member.isfile()} == {"linux_amd64/arch", "linux_arm64/arch"}
    for arch in ("amd64", "arm64"):
        platform = json.dumps({"os": "linux", "architecture": arch})
        async with api(daemon) as session, session.get("/v1.51/images/multi:1/json", params={"platform": platform}) as shown:
            assert (await shown.json())["Architecture"] == arch
    saved = daemon.cli("docker", "save", "multi:1").stdout
    entry = json.loads(content(saved, "index.json"))["manifests"][0]
    assert document(saved, entry["digest"]) == index


async def test_annotations_are_in_the_manifest_and_the_index(daemon):
    client = SessionClient(supplied("FROM scratch\nCOPY a /\n", a=""))
    attrs = {"annotation.org.example": "here", "annotation-index.all": "of it"}
    answer = await build_ours(daemon, {"outputs": [{"type": "oci", "attrs": attrs}]}, client=client)
    index = document(client.received["0"], answer.metadata["containerimage.digest"])
    assert index["annotations"] == {"all": "of it"}
    assert document(client.received["0"], index["manifests"][0]["digest"])["annotations"] == {"org.example": "here"}


async def test_annotations_of_descriptors_are_where_their_documents_are_named(daemon):
    client = SessionClient(supplied("FROM scratch\nCOPY a /\n", a=""))
    attrs = {
        "annotation-manifest[linux/arm64].only": "arm",
        "annotation-manifest-descriptor[linux/amd64].small": "amd",
        "annotation-index-descriptor.top": "most",
    }
    request = {"platforms": ["linux/amd64", "linux/arm64"], "outputs": [{"type": "docker", "attrs": attrs}]}
    answer = await build_ours(daemon, request, client=client)
    archive = client.received["0"]
    (top,) = json.loads(content(archive, "index.json"))["manifests"]
    assert top["annotations"] == answer.metadata["containerimage.descriptor"]["annotations"] == {"top": "most"}
    amd, arm = document(archive, top["digest"])["manifests"]
    assert (amd["annotations"], "annotations" in arm) == ({"small": "amd"}, False)
    assert document(archive, arm["digest"])["annotations"] == {"only": "arm"}
    assert "annotations" not in document(archive, amd["digest"])
    assert amd["mediaType"] == "application/vnd.oci.image.manifest.v1+json", "Docker's types have no room for annotations"


async def test_a_single_image_s_descriptor_is_annotated_in_its_archive(daemon):
    client = SessionClient(supplied("FROM scratch\nCOPY a /\n", a=""))
    attrs = {"annotation-manifest-descriptor.a": "b", "name": "annotated:1"}
    await build_ours(daemon, {"outputs": [{"type": "oci", "attrs": attrs}]}, client=client)
    (entry,) = json.loads(content(client.received["0"], "index.json"))["manifests"]
    assert entry["annotations"].items() >= {"a": "b", "org.opencontainers.image.ref.name": "1"}.items()


async def test_an_annotation_for_a_platform_that_is_not_built_fails_the_build(daemon):
    client = SessionClient(supplied("FROM scratch\nCOPY a /\n", a=""))
    attrs = {"annotation-manifest[linux/s390x].a": "b"}
    answer = await build_ours(daemon, {"outputs": [{"type": "oci", "attrs": attrs}]}, client=client)
    assert answer.error["message"] == "invalid annotation: no platform linux/s390x found in source"


async def test_an_image_that_is_here_gets_the_annotations_of_a_later_build(daemon):
    text, annotated = "FROM scratch\nCOPY a /annotated-later\n", {"annotation.later": "yes"}
    plain = await build_ours(daemon, {"tags": ["plain:1"]}, supplied(text, a=""))
    request = {"tags": ["plain:2"], "outputs": [{"type": "image", "attrs": annotated}]}
    answer = await build_ours(daemon, request, supplied(text, a=""))
    assert answer.image == plain.image
    saved = daemon.cli("docker", "save", "plain:2").stdout
    (entry,) = json.loads(content(saved, "index.json"))["manifests"]
    assert entry["digest"] == answer.metadata["containerimage.digest"]
    assert document(saved, entry["digest"])["annotations"] == {"later": "yes"}
    # What says nothing of annotations changes nothing.
    assert (await build_ours(daemon, {"tags": ["plain:3"]}, supplied(text, a=""))).image == plain.image
    (entry,) = json.loads(content(daemon.cli("docker", "save", "plain:2").stdout, "index.json"))["manifests"]
    assert entry["digest"] == answer.metadata["containerimage.digest"]


async def test_a_check_builds_nothing(daemon):
    client = SessionClient({})
    request = {"text": "from busybox AS One\nFROM busybox as two\nRUN echo never\n", "check": True}
    answer = await build_ours(daemon, request, client=client)
    rules = {warning["rule"] for each in answer.documents for warning in each.get("aux", {}).get("warnings", ())}
    assert "StageNameCasing" in rules or "FromAsCasing" in rules
    assert logs(answer) == b""
    assert answer.documents[-1]["id"] == "boxship.build.result"


@pytest.mark.parametrize(
    ("request_", "status", "message"),
    [
        ({"sbom": True}, 501, "sbom"),
        ({"outputs": [{"type": "gha"}]}, 501, "gha"),
        ({"allow": ["device"]}, 501, "device"),
        ({"tags": 5}, 400, "invalid JSON"),
    ],
)
async def test_requests_that_cannot_be(daemon, request_, status, message):
    answer = await build_ours(daemon, {"text": "FROM busybox\n", **request_})
    assert answer.status == status
    assert message in answer.error["message"]


async def test_entitlements_are_asked_for(daemon):
    text = "FROM busybox\nRUN --security=insecure grep -c . /proc/self/status > /dev/null; echo allowed\n"
    assert "security.insecure" in (await build_ours(daemon, {"text": text})).error["message"]
    assert b"allowed" in logs(await build_ours(daemon, {"text": text, "allow": ["security.insecure"]}))


async def test_a_session_that_nobody_opens_is_told(daemon, monkeypatch):
    async with api(daemon) as session:
        async with session.post("/build?version=boxship&session=short", json={}) as answer:
            assert answer.status == 400
        async with session.get("/build/session?id=0123456789abcdef") as answer:
            assert (answer.status, "websocket" in (await answer.json())["message"]) == (400, True)


async def test_a_session_s_client_that_breaks_the_protocol_is_sent_away(daemon):
    async with api(daemon) as session:
        async with session.ws_connect("/build/session?id=0123456789abcdef") as socket:
            await socket.send_bytes(b"garbage")
            message = await socket.receive(timeout=20)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert "invalid frame" in message.extra
        async with session.ws_connect("/build/session?id=0123456789abcdef") as socket:
            await socket.send_str("text")
            assert "binary" in (await socket.receive(timeout=20)).extra


def test_nothing_is_mounted_afterwards(daemon):
    mounts = subprocess.run(["findmnt", "-n", "-o", "TARGET"], capture_output=True, text=True, check=True).stdout
    assert f"{daemon.home}/data/build" not in mounts
