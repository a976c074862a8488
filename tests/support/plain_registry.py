"""Debian's docker-registry on loopback, without TLS or passwords, and the few requests that put things into it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.archives import digest
from support.cosign import INDEX, MANIFEST, Layer
from support.daemon import wait_until

DOCKER_REGISTRY = shutil.which("docker-registry")
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")


class PlainRegistry:
    """A running registry; ``host`` is its name in references."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"

    def put_blob(self, repository: str, data: bytes) -> str:
        _, location = self._send("POST", f"/v2/{repository}/blobs/uploads/", expected=202)
        separator = "&" if "?" in location else "?"
        self._send("PUT", f"{location}{separator}digest={digest(data)}", data, "application/octet-stream", expected=201)
        return digest(data)

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str = MANIFEST) -> str:
        self._send("PUT", f"/v2/{repository}/manifests/{reference or digest(data)}", data, media_type, expected=201)
        return digest(data)

    def put_layers(self, repository: str, layers: list[Layer], manifest: bytes, reference: str, config: bytes) -> None:
        """A manifest of signatures with what it needs."""
        for data in (config, *(layer.data for layer in layers)):
            self.put_blob(repository, data)
        self.put_manifest(repository, reference, manifest)

    def manifest(self, repository: str, reference: str) -> bytes:
        data, _ = self._send("GET", f"/v2/{repository}/manifests/{reference}", expected=200)
        return data

    def delete_manifest(self, repository: str, of: str) -> None:
        self._send("DELETE", f"/v2/{repository}/manifests/{of}", expected=202)

    def _send(self, method: str, target: str, body: bytes = b"", kind: str = "", *, expected: int) -> tuple[bytes, str]:
        connection = http.client.HTTPConnection(self.host, timeout=30)
        path = target.removeprefix(f"http://{self.host}")
        headers = {"Accept": f"{MANIFEST}, {INDEX}, application/vnd.docker.distribution.manifest.v2+json"}
        if kind:
            headers["Content-Type"] = kind
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            data = response.read()
            assert response.status == expected, (method, path, response.status, data)
            return data, response.getheader("Location", "")
        finally:
            connection.close()


@contextlib.contextmanager
def plain_registry() -> Iterator[PlainRegistry]:
    """Run a registry whose content goes with it."""
    assert DOCKER_REGISTRY is not None
    home = Path(tempfile.mkdtemp(prefix="boxship-registry-", dir="/tmp"))
    config = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(home / "content")}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0"},
    }
    (home / "config.yml").write_text(json.dumps(config))
    with open(home / "log", "wb") as log:
        process = subprocess.Popen(
            [DOCKER_REGISTRY, "serve", str(home / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
        )
    try:

        def listening() -> re.Match[str] | None:
            assert process.poll() is None, (home / "log").read_text()
            return _LISTENING.search((home / "log").read_text())

        yield PlainRegistry(int(wait_until(listening, "the registry listens")[1]))
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(home)
