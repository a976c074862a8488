"""Provenance: statements about images, in the index beside them, wherever that goes."""

from __future__ import annotations

import base64
import json

import aiohttp
import pytest
from conftest import needs_root
from support.build_api import SessionClient, api, build_ours, content, dockerfile, document
from support.daemon import Daemon
from support.registry import REGISTRY, Registry

pytestmark = needs_root

TEXT = "FROM busybox AS first\nARG WORD\nRUN --mount=type=secret,id=token true\nFROM first\nCOPY a /\n"


async def attested(daemon: Daemon, name: str, **provenance: str) -> tuple[bytes, dict, dict, dict]:
    """An archive with provenance, its index, the statement, and the result's metadata."""
    client = SessionClient({"context context": dockerfile(TEXT, a="a")})
    request = {
        "tags": [name],
        "build_args": {"WORD": "spoken"},
        "labels": {"l": "v"},
        "provenance": provenance,
        "outputs": [{"type": "oci"}, {"type": "image"}],
    }
    answer = await build_ours(daemon, request, client=client)
    archive = client.received["0"]
    index = document(archive, answer.metadata["containerimage.digest"])
    manifest = document(archive, index["manifests"][1]["digest"])
    return archive, index, document(archive, manifest["layers"][0]["digest"]), answer.metadata


async def test_a_statement_is_beside_its_image(daemon):
    for other in ("aaa", "zzz"):  # the base has more names than the one that the Dockerfile calls it by
        assert daemon.request("POST", f"/images/busybox/tag?repo={other}&tag=1")[0] == 201
    archive, index, statement, metadata = await attested(daemon, "attested:1", mode="min")
    image, attestation = index["manifests"]
    assert attestation["annotations"] == {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    }
    assert attestation["platform"] == {"architecture": "unknown", "os": "unknown"}
    manifest = document(archive, attestation["digest"])
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.in-toto+json"
    assert layer["annotations"] == {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
    assert document(archive, manifest["config"]["digest"])["rootfs"]["diff_ids"] == [layer["digest"]]
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    (subject,) = statement["subject"]
    assert subject["name"].startswith("pkg:docker/attested@1?platform=linux%2F")
    assert f"sha256:{subject['digest']['sha256']}" == image["digest"]
    definition = statement["predicate"]["buildDefinition"]
    busybox = daemon.get("/images/busybox/json")["Descriptor"]["digest"]
    assert [f"sha256:{each['digest']['sha256']}" for each in definition["resolvedDependencies"]] == [busybox]
    assert "pkg:docker/busybox@latest" in definition["resolvedDependencies"][0]["uri"]
    assert definition["externalParameters"]["request"]["args"] == {}
    assert "buildConfig" not in definition["internalParameters"]
    assert "spoken" not in json.dumps(statement)
    assert statement["predicate"]["runDetails"]["metadata"]["startedOn"]
    assert metadata["buildx.build.provenance"] == statement["predicate"]
    assert metadata["containerimage.config.digest"] == daemon.get("/images/attested:1/json")["Id"]


async def test_the_most_tells_arguments_operations_and_the_text(daemon):
    _, _, statement, _ = await attested(daemon, "attested:max", mode="max", **{"builder-id": "https://ci.example/1"})
    definition, run = statement["predicate"]["buildDefinition"], statement["predicate"]["runDetails"]
    request = definition["externalParameters"]["request"]
    assert request["args"] == {"build-arg:WORD": "spoken", "label:l": "v"}
    assert request["secrets"] == [{"id": "token", "optional": True}]
    assert definition["internalParameters"]["buildConfig"]["llbDefinition"]
    source = run["metadata"]["buildkit_metadata"]["source"]["infos"][0]
    assert base64.b64decode(source["data"]).decode() == TEXT
    assert run["builder"]["id"] == "https://ci.example/1"


async def test_the_older_version_is_there_too(daemon):
    _, index, statement, _ = await attested(daemon, "attested:02", version="v0.2")
    assert statement["predicateType"] == "https://slsa.dev/provenance/v0.2"
    assert statement["predicate"]["materials"]
    assert statement["predicate"]["metadata"]["completeness"]["materials"] is False
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"


async def test_attestations_are_kept_saved_and_loaded_with_their_image(own_daemon):
    _, index, _, metadata = await attested(own_daemon, "kept:1")
    own_daemon.cli("docker", "image", "prune", "-f")
    own_daemon.kill()
    own_daemon.start()
    saved = own_daemon.cli("docker", "save", "kept:1").stdout
    entry = json.loads(content(saved, "index.json"))["manifests"][0]["digest"]
    assert entry == metadata["containerimage.digest"]
    assert document(saved, entry) == index
    assert document(saved, index["manifests"][1]["digest"])["layers"]
    async with api(own_daemon) as session, session.get("/v1.51/images/kept:1/json?manifests=1") as shown:
        manifests = (await shown.json())["Manifests"]
    assert [(each["Kind"], each["Available"]) for each in manifests] == [("image", True), ("attestation", True)]
    own_daemon.cli("docker", "rmi", "kept:1")
    own_daemon.cli("docker", "builder", "prune", "-af")
    blobs = own_daemon.data_root / "content" / "blobs" / "sha256"
    assert not (blobs / index["manifests"][1]["digest"].removeprefix("sha256:")).exists()


@pytest.mark.skipif(REGISTRY is None, reason="docker-registry isn't installed")
async def test_attestations_are_pushed_with_their_image(daemon):
    with Registry() as registry:
        request = {
            "tags": [f"{registry.host}/pushed:1"],
            "text": "FROM busybox\nENV a=b\n",
            "provenance": {},
            "outputs": [{"type": "image", "attrs": {"push": "true"}}],
        }
        answer = await build_ours(daemon, request)
        assert "aux" in answer.documents[-1], answer.documents[-1]
        kinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        async with aiohttp.ClientSession(f"http://{registry.host}", headers={"Accept": kinds}) as session:

            async def get(path: str) -> bytes:
                async with session.get(f"/v2/pushed/{path}", raise_for_status=True) as found:
                    return await found.read()

            index = json.loads(await get(f"manifests/{answer.metadata['containerimage.digest']}"))
            assert len(index["manifests"]) == 2
            for entry in index["manifests"]:
                manifest = json.loads(await get(f"manifests/{entry['digest']}"))
                for part in (manifest["config"], *manifest["layers"]):
                    assert len(await get(f"blobs/{part['digest']}")) == part["size"]


@pytest.mark.parametrize(
    ("provenance", "status", "words"),
    [
        ({"mode": "most"}, 400, "most"),
        ({"version": "v2"}, 400, "v2"),
        ({"reproducible": "true"}, 501, "reproducible"),
        ({"bogus": "1"}, 501, "bogus"),
    ],
)
async def test_options_that_cannot_be(daemon, provenance, status, words):
    answer = await build_ours(daemon, {"text": "FROM scratch\n", "provenance": provenance})
    assert answer.status == status
    assert words in answer.error["message"]
    answer = await build_ours(daemon, {"text": "FROM scratch\n", "provenance": {}, "outputs": [{"type": "tar"}]})
    assert (answer.status, "tar" in answer.error["message"]) == (501, True)
