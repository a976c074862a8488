"""Archives to and from a daemon's containers, straight over its socket."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlencode

from support.daemon import Daemon


class Connection(http.client.HTTPConnection):
    """HTTP over the daemon's unix socket."""

    def __init__(self, path: str, timeout: float = 60) -> None:
        super().__init__("boxship", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def call(
    daemon: Daemon, method: str, path: str, query: dict[str, str] | None = None, body: bytes | Iterable[bytes] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """One call: the status, the body, the headers in lower case."""
    connection = Connection(str(daemon.socket))
    try:
        headers = {"Content-Type": "application/x-tar"} if method == "PUT" else {}
        connection.request(method, f"{path}?{urlencode(query or {})}", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), {key.lower(): value for key, value in answer.getheaders()}
    finally:
        connection.close()


def get(daemon: Daemon, container: str, path: str) -> tuple[int, bytes]:
    """GET an archive."""
    return call(daemon, "GET", f"/containers/{container}/archive", {"path": path})[:2]


def put(daemon: Daemon, container: str, path: str, archive: bytes | Iterable[bytes], **query: str) -> tuple[int, str]:
    """PUT an archive: the status, and the message if there is one."""
    status, body, _ = call(daemon, "PUT", f"/containers/{container}/archive", {"path": path, **query}, archive)
    return status, json.loads(body)["message"] if body else ""


def head(daemon: Daemon, container: str, path: str) -> dict[str, object] | int:
    """HEAD an archive: what it says, or the status of a refusal."""
    status, _, headers = call(daemon, "HEAD", f"/containers/{container}/archive", {"path": path})
    return json.loads(base64.b64decode(headers["x-docker-container-path-stat"])) if status == 200 else status


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """An archive's members by name."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {info.name: info for info in opened}


def content(archive: bytes, name: str) -> bytes:
    """A member's content."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file is not None
        return file.read()


def holders(id_: str) -> list[int]:
    """The processes that hold a container's root for a copy."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if words.startswith(b"boxrun-holder") and id_[:20].encode() in words:
                found.append(int(entry))
    return found
