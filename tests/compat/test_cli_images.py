"""Images with Docker's command line and with ours, and with tools made by others at the other end."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile

import pytest
from support.daemon import DOCKER

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def tool(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_list_tag_inspect_history_remove(daemon, client):
    name = f"tagged-{client}"
    daemon.cli(client, "tag", "busybox", f"{name}:v1")
    table = daemon.cli(client, "images", name).stdout.decode().splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert table[1].split()[:2] == [name, "v1"]
    shown = json.loads(daemon.cli(client, "inspect", f"{name}:v1").stdout)[0]
    assert f"{name}:v1" in shown["RepoTags"]
    assert "busybox" in daemon.cli(client, "history", f"{name}:v1").stdout.decode()
    assert f"Untagged: {name}:v1" in daemon.cli(client, "rmi", f"{name}:v1").stdout.decode()
    result = daemon.cli(client, "rmi", f"{name}:v1", code=1)
    assert "No such image" in result.stderr.decode()


def test_an_image_in_use_is_not_removed(daemon, client):
    name = f"used-{client}"
    daemon.cli(client, "tag", "busybox", name)
    ident = daemon.cli(client, "create", name, "true").stdout.decode().strip()
    result = daemon.cli(client, "rmi", daemon.inspect(ident)["Image"], code=1)
    assert "conflict: unable to" in result.stderr.decode()
    daemon.cli(client, "rm", ident)
    daemon.cli(client, "rmi", name)


def test_save_to_skopeo_and_umoci_and_back(daemon, client, tmp_path):
    name = f"travels-{client}"
    daemon.cli(client, "tag", "busybox", f"{name}:v1")
    archive = tmp_path / "saved.tar"
    daemon.cli(client, "save", "-o", str(archive), f"{name}:v1")
    daemon.cli(client, "rmi", f"{name}:v1")
    layout = tmp_path / "layout"
    tool("skopeo", "copy", f"docker-archive:{archive}", f"oci:{layout}:v1")
    tool("umoci", "unpack", "--image", f"{layout}:v1", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle" / "rootfs" / "bin" / "busybox").stat().st_size > 100_000
    tool("umoci", "config", "--image", f"{layout}:v1", "--config.env", "FROM=umoci")
    returned = tmp_path / "returned.tar"
    tool("skopeo", "copy", f"oci:{layout}:v1", f"docker-archive:{returned}:{name}:v2")
    assert f"Loaded image: {name}:v2" in daemon.cli(client, "load", "-i", str(returned)).stdout.decode()
    out = daemon.cli(client, "run", "--rm", "--network", "none", f"{name}:v2", "sh", "-c", "echo $FROM").stdout
    assert out == b"umoci\n"
    daemon.cli(client, "rmi", f"{name}:v2")


def test_an_oci_layout_is_loaded(daemon, client, tmp_path):
    name = f"layout-{client}"
    daemon.cli(client, "tag", "busybox", f"{name}:v1")
    archive, layout = tmp_path / "saved.tar", tmp_path / "layout"
    daemon.cli(client, "save", "-o", str(archive), f"{name}:v1")
    daemon.cli(client, "rmi", f"{name}:v1")
    tool("skopeo", "copy", f"docker-archive:{archive}", f"oci:{layout}:docker.io/library/{name}:v3")
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        for entry in sorted(layout.iterdir()):
            tar.add(entry, entry.name)
    daemon.cli(client, "load", stdin=(tmp_path / "layout.tar").read_bytes())
    assert daemon.cli(client, "run", "--rm", "--network", "none", f"{name}:v3", "echo", "works").stdout == b"works\n"
    daemon.cli(client, "rmi", f"{name}:v3")


def test_import_makes_an_image_of_a_root_file_system(daemon, client, tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin" / "busybox")
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(root / "bin", "bin")
    name = f"imported-{client}"
    daemon.cli(client, "import", "--change", 'CMD ["/bin/busybox", "echo", "imported"]', str(tmp_path / "root.tar"), name)
    assert daemon.cli(client, "run", "--rm", "--network", "none", name).stdout == b"imported\n"
    daemon.cli(client, "rmi", name)


def test_the_embedded_image_needs_nothing(daemon, client):
    out = daemon.cli(client, "run", "--rm", "--network", "none", "boxship/base", "sh", "-c", "echo hello").stdout
    assert out == b"hello\n"
