"""Manifest lists with Docker's command line and with ours: the same files, the same bytes in the registry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Client
from support.daemon import DOCKER
from support.registry import PASSWORD, REGISTRY, USER, Registry
from support.remote_images import RemoteImage, index, layer

pytestmark = [
    pytest.mark.skipif(DOCKER is None, reason="no docker command"),
    pytest.mark.skipif(REGISTRY is None, reason="no docker-registry"),
]


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """A registry with images for two processors, in both forms, and what lists them."""
    with Registry() as registry:
        for form in ("docker", "oci"):
            images = []
            for processor in ("amd64", "arm64"):
                variant = "v8" if processor == "arm64" else ""
                image = RemoteImage([layer({"etc/cpu": processor.encode()})], "gzip", form == "docker", processor, variant)
                image.put(registry, f"{form}/app", processor)
                images.append(image)
            media_type = (
                f"application/vnd.{'docker.distribution.manifest.list.v2' if form == 'docker' else 'oci.image.index.v1'}+json"
            )
            registry.put_manifest(f"{form}/app", "all", index(*images, docker=form == "docker"), media_type)
        yield registry


@pytest.fixture
def clients(daemon, tmp_path) -> tuple[Client, Client]:
    return Client(daemon, "docker", tmp_path / "one"), Client(daemon, "boxship", tmp_path / "two")


def alike(clients: tuple[Client, Client], *args: str, code: int = 0) -> tuple[str, str]:
    docker, boxship = (client.both("manifest", *args, code=code) for client in clients)
    assert boxship == docker
    return boxship


def files(client: Client) -> dict[str, bytes]:
    root = client.config / "manifests"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_a_list_is_made_annotated_shown_and_pushed_alike(clients, registry, form):
    source, target = f"{registry.host}/{form}/app", f"{registry.host}/{form}/list:1"
    assert (
        alike(clients, "create", "--insecure", target, f"{source}:amd64", f"{source}:arm64")[0]
        == f"Created manifest list {target}\n"
    )
    docker, boxship = (files(client) for client in clients)
    assert boxship == docker
    assert len(boxship) == 2
    assert "refusing to amend" in alike(clients, "create", "--insecure", target, f"{source}:amd64", code=1)[1]
    alike(clients, "create", "--insecure", "--amend", target, f"{source}:amd64")
    features = ["--os-features", "one,two", "--os-features", "two", "--os-version", "10.1"]
    alike(clients, "annotate", *features, target, f"{source}:arm64")
    alike(clients, "annotate", "--variant", "v9", "--os", "linux", "--arch", "arm64", target, f"{source}:arm64")
    assert files(clients[0]) == files(clients[1])
    for args in ([target], ["-v", target], [target, f"{source}:arm64"], ["-v", target, f"{source}:arm64"]):
        alike(clients, "inspect", *args)
    pushed = [client("manifest", "push", "--insecure", target) for client in clients]
    assert pushed[0] == pushed[1]
    digest = pushed[1].splitlines()[-1]
    kinds = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json"
    _, headers, raw = registry.request("GET", f"/v2/{form}/list/manifests/{digest}", headers={"Accept": kinds})
    assert headers["docker-content-digest"] == digest
    assert [entry["platform"]["architecture"] for entry in json.loads(raw)["manifests"]] == ["amd64", "arm64"]
    alike(clients, "rm", target)
    assert alike(clients, "rm", target, code=1)[1] == f"No such manifest: {target}\n"
    assert files(clients[1]) == {}


@pytest.mark.parametrize("form", ["docker", "oci"])
@pytest.mark.parametrize("flags", [[], ["-v"]])
@pytest.mark.parametrize("tag", ["amd64", "arm64", "all"])
def test_what_a_registry_has_is_shown_alike(clients, registry, form, flags, tag):
    alike(clients, "inspect", "--insecure", *flags, f"{registry.host}/{form}/app:{tag}")


def test_what_ours_pushes_runs_on_either_processor(daemon, registry, tmp_path):
    client = Client(daemon, "boxship", tmp_path)
    source, target = f"{registry.host}/oci/app", f"{registry.host}/mixed/list:1"
    client("manifest", "create", target, f"{source}:amd64", f"{source}:arm64")
    client("manifest", "push", "--purge", target)
    assert files(client) == {}
    client("pull", "-q", "--platform", "linux/arm64", target)
    assert json.loads(client("inspect", target))[0]["Architecture"] == "arm64"
    client("rmi", target)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["create", "HOST/x:1", "HOST/none:1"], "no such manifest: HOST/none:1"),
        (["create", "HOST/x:1", "HOST/oci/app:all"], "HOST/oci/app:all is a manifest list"),
        (["create", "UPPER", "x"], "error parsing name for manifest list UPPER: invalid reference format: "),
        (["create", "x"], "docker: 'docker manifest create' requires at least 2 arguments"),
        (
            ["annotate", "HOST/none:1", "HOST/oci/app:amd64"],
            "manifest for image HOST/oci/app:amd64 does not exist in HOST/none:1",
        ),
        (["inspect", "HOST/none:1"], "no such manifest: HOST/none:1"),
        (["inspect", "HOST/none:1", "HOST/two:1"], "No such manifest: HOST/two:1"),
        (["push", "HOST/none:1"], "No such manifest: HOST/none:1"),
        (["rm", "HOST/none:1", "UPPER"], "No such manifest: HOST/none:1\ninvalid reference format: "),
    ],
)
def test_refusals(daemon, registry, tmp_path, args, error):
    client = Client(daemon, "boxship", tmp_path)
    said = client.both("manifest", *(arg.replace("HOST", registry.host) for arg in args), code=1)[1]
    assert said.startswith(error.replace("HOST", registry.host))
    assert not Path(tmp_path / "manifests").exists()


def test_annotations_that_no_system_has(clients, registry):
    target, source = f"{registry.host}/wrong/list:1", f"{registry.host}/oci/app:amd64"
    alike(clients, "create", "--insecure", target, source)
    before = files(clients[1])
    alike(clients, "annotate", "--arch", "pdp11", target, source, code=1)
    alike(clients, "annotate", "--os", "windows", "--arch", "s390x", target, source, code=1)
    assert files(clients[1]) == before


def test_other_registries_images_are_not_listed(clients, registry):
    source = f"{registry.host}/oci/app:amd64"
    alike(clients, "create", "--insecure", "other.example/list:1", source)
    assert alike(clients, "push", "other.example/list:1", code=1)[1].startswith(
        "cannot use source images from a different registry"
    )


def test_a_damaged_file_is_not_believed(daemon, registry, tmp_path):
    client = Client(daemon, "boxship", tmp_path)
    target = f"{registry.host}/damaged/list:1"
    client("manifest", "create", target, f"{registry.host}/oci/app:amd64")
    (path,) = (path for path in (tmp_path / "manifests").rglob("*") if path.is_file())
    document = json.loads(path.read_text())
    document["Raw"] = "e30="
    path.write_text(json.dumps(document))
    assert "image manifest digest mismatch" in client.both("manifest", "push", target, code=1)[1]
    path.write_text("{")
    assert f"invalid manifest file {path}" in client.both("manifest", "push", target, code=1)[1]


def test_insecure_is_the_daemons_to_say(daemon, registry, tmp_path):
    client = Client(daemon, "boxship", tmp_path)
    client("manifest", "inspect", "--insecure", f"localhost:{registry.port}/oci/app:all")
    said = client.both("manifest", "inspect", "--insecure", "registry.example/x:1", code=1)[1]
    assert said == "--insecure: the daemon speaks to registry.example over TLS only; add it to its insecure-registries\n"


def test_protected_lists_need_the_login(daemon, tmp_path):
    client = Client(daemon, "boxship", tmp_path)
    with Registry(htpasswd=True) as protected:
        client("tag", "busybox", f"{protected.host}/app:1")
        client("login", "-u", USER, "-p", PASSWORD, protected.host)
        client("push", "-q", f"{protected.host}/app:1")
        client("manifest", "create", f"{protected.host}/list:1", f"{protected.host}/app:1")
        client("manifest", "push", f"{protected.host}/list:1")
        assert "manifests" in json.loads(client("manifest", "inspect", f"{protected.host}/list:1"))
        client("logout", protected.host)
        assert client.both("manifest", "push", f"{protected.host}/list:1", code=1)[1].startswith("Error response from daemon: ")
        client("rmi", f"{protected.host}/app:1")
