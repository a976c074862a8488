"""Debian's docker-registry on loopback, for pulls and pushes: one for every engine, in its own network namespace."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.archives import Made
from benchmarks.engine import Engine


@contextmanager
def registry(root: Path, inside: tuple[str, ...] = ()) -> Iterator[str]:
    """A registry that keeps its content below ``root``; its host and port.

    Args:
        root: a directory, which several registries may share as long as one at a time is written to.
        inside: the beginning of a command that runs something in a network namespace.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root)}},
        "http": {"addr": host, "secret": "benchmark"},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(json.dumps(config))
        file.flush()
        process = subprocess.Popen(
            [*inside, "docker-registry", "serve", file.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            _wait(host, inside)
            yield host
        finally:
            process.terminate()
            process.wait()


def _wait(host: str, inside: tuple[str, ...]) -> None:
    deadline = time.monotonic() + 30
    probe = [*inside, "curl", "-sf", "-o", "/dev/null", f"http://{host}/v2/"]
    while subprocess.run(probe, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no registry answers at {host}")
        time.sleep(0.05)


def put(made: Made, root: Path) -> None:
    """Put an image into a registry's directory, its layers compressed by gzip as ``docker push`` does it; by skopeo."""
    with registry(root) as host:
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"docker-archive:{made.archive}", f"docker://{host}/{made.name}"],
            check=True,
        )  # fmt: skip


@contextmanager
def beside(engine: Engine, root: Path) -> Iterator[str]:
    """A registry that an engine reaches on its loopback."""
    with registry(root, engine.inside) as host:
        yield host
