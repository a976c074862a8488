"""Images out of a registry and into one, with the real docker command and the API's stream."""

from __future__ import annotations

import json
import subprocess

import pytest
from conftest import needs_root
from support.daemon import Daemon
from support.registry import Registry
from support.remote_images import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    RemoteImage,
    index,
    layer,
    noise,
    sha256,
)

pytestmark = needs_root

ANY = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"}


def stream(daemon: Daemon, method: str, path: str, headers: str = "") -> tuple[int, list[dict]]:
    answer = daemon.raw(f"{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: 0\r\n{headers}\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), [json.loads(line) for line in body.splitlines() if line.strip()]


def pull(daemon: Daemon, image: str, query: str = "") -> tuple[int, list[dict]]:
    name, _, tag = image.rpartition(":")
    return stream(daemon, "POST", f"/images/create?fromImage={name}&tag={tag}{query}")


def steps(messages: list[dict], subject: str) -> list[str]:
    """What was said of a layer, without repetitions."""
    said = [message["status"] for message in messages if message.get("id") == subject]
    return [status for position, status in enumerate(said) if position == 0 or said[position - 1] != status]


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_layers_of_every_compression(daemon: Daemon, registry: Registry, compression: str):
    image = RemoteImage([layer({"a": noise(100_000)}), layer({"b": compression.encode()})], compression)
    image.put(registry, "layers", compression or "plain")
    name = f"{registry.host}/layers:{compression or 'plain'}"
    status, messages = pull(daemon, name)
    assert status == 200
    assert messages[0] == {"status": "Pulling from layers", "id": compression or "plain"}
    assert messages[-2:] == [
        {"status": f"Digest: {image.digest}"},
        {"status": f"Status: Downloaded newer image for {name}"},
    ]
    inspected = daemon.get(f"/images/{name}/json")
    assert inspected["Id"] == image.id
    assert inspected["RepoDigests"] == [f"{registry.host}/layers@{image.digest}"]


def test_the_stream_is_dockers(daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({"big": noise(3 << 20, 1)}), layer({"small": b"stream"})])
    image.put(registry, "stream")
    status, messages = pull(daemon, f"{registry.host}/stream:latest")
    assert status == 200
    for blob in image.blobs:
        subject = sha256(blob)[7:19]
        said = steps(messages, subject)
        wanted = ["Pulling fs layer", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete"]
        assert [status for status in said if status != "Waiting"] == wanted
        downloads = [m for m in messages if m.get("id") == subject and m["status"] == "Downloading"]
        assert downloads[-1]["progressDetail"] == {"current": len(blob), "total": len(blob)}
        assert [m["progressDetail"] for m in messages if m.get("id") == subject and m["status"] == "Pull complete"] == [{}]


def test_what_is_there_is_not_pulled_again(daemon: Daemon, registry: Registry):
    base = layer({"base": noise(50_000, 2)})
    first, second = RemoteImage([base, layer({"one": b"1"})]), RemoteImage([base, layer({"two": b"2"})])
    first.put(registry, "shared", "one")
    second.put(registry, "shared", "two")
    pull(daemon, f"{registry.host}/shared:one")
    _, messages = pull(daemon, f"{registry.host}/shared:two")
    assert steps(messages, sha256(first.blobs[0])[7:19]) == ["Already exists"]
    _, messages = pull(daemon, f"{registry.host}/shared:two")
    assert messages[-1] == {"status": f"Status: Image is up to date for {registry.host}/shared:two"}
    assert len(messages) == 3


def test_by_digest(daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({"digest": b"d"})])
    digest = image.put(registry, "digests")
    name = f"{registry.host}/digests@{digest}"
    status, messages = stream(daemon, "POST", f"/images/create?fromImage={registry.host}/digests&tag={digest}")
    assert status == 200
    assert messages[0]["id"] == digest
    assert daemon.get(f"/images/{name}/json")["RepoTags"] == []
    assert daemon.cli("docker", "pull", "-q", name).stdout.decode().strip() == name


def test_all_tags(daemon: Daemon, registry: Registry):
    for tag in ("a", "b", "c"):
        RemoteImage([layer({tag: tag.encode()})]).put(registry, "many", tag)
    out = daemon.cli("docker", "pull", "--all-tags", f"{registry.host}/many").stdout.decode()
    assert f"Status: Downloaded newer image for {registry.host}/many" in out
    listed = daemon.cli("docker", "images", "--format", "{{.Tag}}", f"{registry.host}/many").stdout.decode().split()
    assert sorted(listed) == ["a", "b", "c"]


@pytest.mark.parametrize("docker", [False, True])
def test_platforms(daemon: Daemon, registry: Registry, docker: bool):
    repository = f"platforms-{docker}".lower()
    here = RemoteImage([layer({"amd64": repository.encode()})], docker=docker)
    there = RemoteImage([layer({"arm64": repository.encode()})], docker=docker, architecture="arm64", variant="v8")
    for image in (here, there):
        image.put(registry, repository, image.architecture)
    listed = index(there, here, docker=docker)
    registry.put_manifest(repository, "latest", listed, DOCKER_INDEX if docker else OCI_INDEX)
    name = f"{registry.host}/{repository}:latest"
    daemon.cli("docker", "pull", name)
    assert daemon.get(f"/images/{name}/json")["Id"] == here.id
    assert daemon.get(f"/images/{name}/json")["RepoDigests"] == [f"{registry.host}/{repository}@{sha256(listed)}"]
    daemon.cli("docker", "pull", "--platform", "linux/arm64", name)
    assert daemon.get(f"/images/{there.id}/json")["Architecture"] == "arm64"
    refused = daemon.cli("docker", "pull", "--platform", "linux/s390x", name, code=1)
    assert b"no matching manifest for linux/s390x in the manifest list entries" in refused.stderr
    # Both are here: the whole index goes out again, unchanged, and takes its tag back.
    registry.put_manifest(repository, "latest", here.manifest, here.media_type)
    daemon.cli("docker", "push", name)
    status, headers, data = registry.request("GET", f"/v2/{repository}/manifests/latest", b"", ANY)
    assert (status, data) == (200, listed), headers


def test_an_absent_image_is_pulled_by_run(daemon: Daemon, registry: Registry):
    name = f"{registry.host}/run/busybox:1"
    daemon.cli("docker", "tag", "busybox", name)
    daemon.cli("docker", "push", name)
    daemon.cli("docker", "rmi", name)
    ran = daemon.cli("docker", "run", "--rm", "--network", "none", name, "echo", "pulled")
    assert ran.stdout == b"pulled\n"
    assert b"Unable to find image" in ran.stderr


def test_what_does_not_exist(daemon: Daemon, registry: Registry):
    name = f"{registry.host}/nothing/here:1"
    refused = daemon.cli("docker", "pull", name, code=1).stderr.decode()
    assert f"manifest for {name} not found: manifest unknown: manifest unknown" in refused
    refused = daemon.cli("docker", "push", f"{registry.host}/nothing/here:1", code=1).stderr.decode()
    assert f"An image does not exist locally with the tag: {registry.host}/nothing/here" in refused


def test_push(daemon: Daemon, registry: Registry):
    name = f"{registry.host}/pushed/busybox:2"
    daemon.cli("docker", "tag", "busybox", name)
    status, messages = stream(daemon, "POST", f"/images/{registry.host}/pushed/busybox/push?tag=2", "X-Registry-Auth: e30=\r\n")
    assert status == 200
    assert messages[0] == {"status": f"The push refers to repository [{registry.host}/pushed/busybox]"}
    (diff,) = daemon.get("/images/busybox/json")["RootFS"]["Layers"]
    said = steps(messages, diff[7:19])
    assert said[0] == "Preparing"
    assert said[-1] in ("Pushed", "Layer already exists") or said[-1].startswith("Mounted from ")
    digest = daemon.get(f"/images/{name}/json")["RepoDigests"][-1].partition("@")[2]
    size = len(registry.request("GET", "/v2/pushed/busybox/manifests/2", b"", ANY)[2])
    assert messages[-2] == {"status": f"2: digest: {digest} size: {size}"}
    assert messages[-1]["aux"] == {"Tag": "2", "Digest": digest, "Size": size}
    _, messages = stream(daemon, "POST", f"/images/{registry.host}/pushed/busybox/push?tag=2", "X-Registry-Auth: e30=\r\n")
    assert steps(messages, diff[7:19]) == ["Preparing", "Layer already exists"]
    shown = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{name}"], capture_output=True, check=True, timeout=60
    )
    assert json.loads(shown.stdout)["Digest"] == digest


def test_blobs_are_mounted_from_where_they_came(daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({"mounted": noise(10_000, 3)})])
    image.put(registry, "origin")
    daemon.cli("docker", "pull", f"{registry.host}/origin")
    daemon.cli("docker", "tag", f"{registry.host}/origin", f"{registry.host}/copy")
    out = daemon.cli("docker", "push", f"{registry.host}/copy").stdout.decode()
    assert f"{sha256(image.layers[0])[7:19]}: Mounted from origin" in out
    assert registry.request("GET", "/v2/copy/manifests/latest", b"", ANY)[2] == image.manifest


def test_skopeo_pushes_and_we_pull(daemon: Daemon, registry: Registry, tmp_path):
    with open(tmp_path / "busybox.tar", "wb") as file:
        file.write(daemon.raw(b"GET /images/busybox/get HTTP/1.0\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")[2])
    source = f"docker-archive:{tmp_path}/busybox.tar:busybox:latest"
    for form in ("oci", "v2s2"):
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--format", form, source, f"docker://{registry.host}/skopeo:{form}"],
            check=True, timeout=60,
        )  # fmt: skip
        daemon.cli("docker", "pull", f"{registry.host}/skopeo:{form}")
        ran = daemon.cli("docker", "run", "--rm", "--network", "none", f"{registry.host}/skopeo:{form}", "echo", form)
        assert ran.stdout.decode().strip() == form


def test_distribution_inspect(daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({"inspect": b"1"})], architecture="arm64", variant="v8")
    digest = image.put(registry, "inspected", "1")
    said = daemon.get(f"/distribution/{registry.host}/inspected:1/json")
    assert said == {
        "Descriptor": {"mediaType": image.media_type, "digest": digest, "size": len(image.manifest)},
        "Platforms": [{"architecture": "arm64", "os": "linux", "variant": "v8"}],
    }


def test_manifests_of_other_repositories_are_taken_over(daemon: Daemon, registry: Registry):
    images = [RemoteImage([layer({"m": arch.encode()})], architecture=arch) for arch in ("amd64", "arm64")]
    for image in images:
        image.put(registry, f"parts/{image.architecture}")
    listed = index(*images)
    sources = "&".join(f"source={registry.host}/parts/{image.architecture}@{image.digest}" for image in images)
    head = (
        f"PUT /distribution/{registry.host}/whole:1/manifest?{sources} HTTP/1.0\r\nHost: x\r\n"
        f"Content-Type: {OCI_INDEX}\r\nContent-Length: {len(listed)}\r\n\r\n"
    )
    answer = daemon.raw(head.encode() + listed)
    assert answer.split()[1] == b"201", answer
    assert f"Docker-Content-Digest: {sha256(listed)}".encode() in answer
    got = daemon.raw(f"GET /distribution/{registry.host}/whole:1/manifest HTTP/1.0\r\nHost: x\r\n\r\n".encode())
    top, _, body = got.partition(b"\r\n\r\n")
    assert body == listed
    assert f"Content-Type: {OCI_INDEX}".encode() in top
    assert registry.request("GET", f"/v2/whole/blobs/{sha256(images[1].blobs[0])}")[2] == images[1].blobs[0]


def test_events(daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({"events": b"1"})])
    image.put(registry, "events", "1")
    name = f"{registry.host}/events:1"
    since = daemon.get("/info")["SystemTime"]
    daemon.cli("docker", "pull", name)
    daemon.cli("docker", "push", name)
    until = daemon.get("/info")["SystemTime"]
    shown = daemon.cli(
        "docker", "events", "--since", since, "--until", until, "--filter", "type=image", "--format", "{{json .}}"
    )
    events = [json.loads(line) for line in shown.stdout.splitlines()]
    ours = [event for event in events if event["Actor"]["ID"] == name]
    assert [event["Action"] for event in ours] == ["pull", "push"]
    assert ours[0]["Actor"]["Attributes"] == {"made": "by hand", "name": f"{registry.host}/events"}
