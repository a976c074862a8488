"""Ignore files beside Docker's command line, whose pattern matcher leaves files out of the context that it sends."""

from __future__ import annotations

import http.server
import io
import json
import os
import random
import subprocess
import tarfile
import threading
from collections.abc import Iterator

import pytest
from boxshipd.builder.dockerfile.ignore import Matcher, read_patterns
from boxshipd.errors import InvalidParameter
from support.daemon import DOCKER

pytestmark = pytest.mark.skipif(DOCKER is None, reason="Docker's command line is missing, or older than release 26")

PARTS = ("a", "b", "/", "*", "**", "**/", "?", ".", "[ab]", "[^a]", "d", "c", "x", "\\*", "f", "ad/", "/ab")
STARTS = ("", "", "!", "/", "! ", " ")
NAMES = ("a", "b", "ab", "ba", ".a", "a.b", "c", "*x")
OWN = {"Dockerfile", ".dockerignore"}


class Builder(http.server.ThreadingHTTPServer):
    """A daemon that keeps the contexts it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.contexts: list[bytes] = []


class _Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Builder

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(b"OK")

    def do_POST(self) -> None:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.server.contexts.append(body)
        self._answer(json.dumps({"stream": "kept"}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.43")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def builder() -> Iterator[Builder]:
    with Builder() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def sent(builder, context, tmp_path) -> set[str] | None:
    """The files that Docker's command line sends; None where it refuses the ignore file."""
    env = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(tmp_path)}
    host = f"tcp://127.0.0.1:{builder.server_address[1]}"
    subprocess.run([DOCKER, "-H", host, "build", "-q", str(context)], env=env, capture_output=True, timeout=60, check=False)
    if not builder.contexts:
        return None
    with tarfile.open(fileobj=io.BytesIO(builder.contexts.pop())) as archive:
        return {member.name for member in archive if member.isfile()} - OWN


def test_they_leave_out_the_same(builder, tmp_path):
    context = tmp_path / "context"
    for name in NAMES:
        for path in (name, f"{name}d/{name}f", f"{name}d/{name}/ab/a", f"{name}d/{name}/b", f"{name}d/c0"):
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (context / path).touch()
    (context / "Dockerfile").write_text("FROM scratch\n")
    files = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()} - OWN
    chance = random.Random(4)
    for _ in range(40):
        lines = (
            chance.choice(STARTS) + "".join(chance.choices(PARTS, k=chance.randint(1, 5))) for _ in range(chance.randint(1, 4))
        )
        text = "\n".join(lines)
        (context / ".dockerignore").write_text(text)
        theirs = sent(builder, context, tmp_path)
        try:
            matcher = Matcher(read_patterns(text.encode()))
        except InvalidParameter:
            assert theirs is None, text
            continue
        assert theirs is not None, text
        ours = {path for path in files if not matcher.matches(path)}
        assert theirs <= ours, text
        # Docker doesn't look into a directory that is left out, unless a pattern with ! begins with its name.
        assert [path for path in ours - theirs if not any(map(matcher.matches, above(path)))] == [], text


def above(path: str) -> list[str]:
    """The directories that a path is in."""
    names = path.split("/")
    return ["/".join(names[:end]) for end in range(1, len(names))]
