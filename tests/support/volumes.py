"""Images with declared volumes, and containers that use volumes, for tests."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence

from support.archives import SourceImage, docker_archive, tar
from support.busybox import busybox_archive
from support.daemon import Daemon

Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def busybox_layer() -> bytes:
    """The one layer of the image ``busybox``."""
    with tarfile.open(fileobj=io.BytesIO(busybox_archive())) as archive:
        layer = archive.extractfile("layer.tar")
        assert layer is not None
        return layer.read()


def load_image(daemon: Daemon, name: str, entries: Sequence[Entry] | bytes, volumes: Sequence[str] = ()) -> None:
    """Load busybox with one more layer and declared volumes as the image ``name``.

    Args:
        daemon: where to.
        name: the image's name and tag.
        entries: the layer's members, or the layer.
        volumes: paths for VOLUME.
    """
    layer = entries if isinstance(entries, bytes) else tar(*entries)
    config: dict[str, object] = {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Volumes": {path: {} for path in volumes}}
    image = SourceImage([busybox_layer(), layer], [name], config=config)
    daemon.cli("docker", "load", stdin=docker_archive(image))


def create(daemon: Daemon, image: str, *command: str, status: int = 201, host: Mapping[str, object] | None = None, **config):
    """Create a container; its id, or the message of the error that is expected."""
    body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": "none", **(host or {})}, **config}
    code, answer = daemon.request("POST", "/containers/create", body)
    assert code == status, answer
    assert isinstance(answer, dict)
    return answer["Id"] if status == 201 else answer["message"]


def run(daemon: Daemon, ident: str) -> tuple[int, str]:
    """Start a container, wait for its end and remove it with its volumes; its exit status and what it wrote."""
    code, answer = daemon.request("POST", f"/containers/{ident}/start")
    assert code == 204, answer
    _, waited = daemon.request("POST", f"/containers/{ident}/wait")
    output = daemon.cli("docker", "logs", ident)
    daemon.request("DELETE", f"/containers/{ident}?v=1")
    assert isinstance(waited, dict)
    return waited["StatusCode"], (output.stdout + output.stderr).decode()


def volume_names(daemon: Daemon) -> list[str]:
    """The names of all volumes."""
    return [volume["Name"] for volume in daemon.get("/volumes")["Volumes"]]
