"""kill -9 of processes while a build pulls its base, copies, downloads or exports: steps that are no commands.

What such a step doesn't need may die without being noticed. What it needs takes the build with it, and no more: nothing is left
behind, nothing that is half there counts as a step's result, and the next build is right.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.faulty import Fault, FaultyProxy
from support.registry import REGISTRY, Registry
from support.remote_images import RemoteImage, layer, noise, sha256
from support.victims import kill

pytestmark = [needs_root, pytest.mark.timeout(600)]

MIB = 1 << 20
VICTIMS = ["supervisor", "zygote", "client"]
FILE = noise(4 * MIB, 9)


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    if REGISTRY is None:
        pytest.skip("no registry")
    with Registry() as registry:
        yield registry


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultyProxy]:
    with FaultyProxy(registry.host) as proxy:
        yield proxy


def context(tmp_path: Path, dockerfile: str) -> Path:
    """A context with four files of five megabytes, and one."""
    directory = tmp_path / "project"
    (directory / "big").mkdir(parents=True)
    for number in range(4):
        (directory / "big" / f"f{number}").write_bytes(noise(5_000_000, number))
    (directory / "own").write_text("own\n")
    (directory / "Dockerfile").write_text(dockerfile)
    return directory


@contextlib.contextmanager
def building(daemon: Daemon, directory: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """A build under way, whose client is gone after the block."""
    command = ("build", "--progress=plain", *flags, str(directory))
    with daemon.popen("boxship", *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as client:
        try:
            yield client
        finally:
            client.kill()


def until(client: subprocess.Popen[bytes], said: str) -> None:
    """Read what a client says until it says something."""
    assert client.stderr is not None
    assert any(said in line.decode() for line in client.stderr), f"it never says {said}"


def end(daemon: Daemon, client: subprocess.Popen[bytes], victim: str) -> None:
    """Kill one of those that a build may depend on."""
    if victim == "client":
        os.kill(client.pid, signal.SIGKILL)
        client.wait()
    else:
        kill(daemon, victim)


def finished(client: subprocess.Popen[bytes], victim: str) -> None:
    """The build ends well, unless it is its own client that has gone."""
    assert client.stderr is not None
    said = client.stderr.read().decode()
    assert client.wait() == (-signal.SIGKILL if victim == "client" else 0), said


def left(daemon: Daemon) -> list[str]:
    """What only a build that is under way may have."""
    data = daemon.data_root
    found = [name for name in os.listdir(data / "snapshots") if name.startswith(("unpacking", "removing"))]
    for place in ("build/scratch", "transients"):
        found += os.listdir(data / place)
    for place in ("build/downloads", "build/repositories"):
        found += [name for name in os.listdir(data / place) if name.startswith("new-")]
    return found + [f"{record['ID']} in use" for record in daemon.get("/system/df")["BuildCache"] if record["InUse"]]


def nothing_is_left(daemon: Daemon, *, partial: bool = False) -> None:
    """Wait for a build's traces to be gone; ``partial`` blobs are kept, for who goes on with them."""
    wait_until(lambda: not left(daemon), f"nothing is left of the build: {left(daemon)}", 30)
    if not partial:
        wait_until(lambda: not os.listdir(daemon.data_root / "content/ingest"), "no blob is in the making", 30)


def built(daemon: Daemon, directory: Path, tmp_path: Path) -> Path:
    """Build it once more, undisturbed, and see what it gives."""
    out = tmp_path / "out"
    daemon.cli("boxship", "build", "-o", str(out), str(directory))
    nothing_is_left(daemon)
    return out


def same(out: Path, directory: Path) -> bool:
    names = sorted(os.listdir(directory / "big"))
    assert sorted(os.listdir(out / "big")) == names
    return all((out / "big" / name).read_bytes() == (directory / "big" / name).read_bytes() for name in names)


@pytest.mark.parametrize("victim", ["boxshipd", *VICTIMS])
def test_while_the_base_is_pulled(own_daemon: Daemon, registry: Registry, proxy: FaultyProxy, tmp_path: Path, victim: str):
    image = RemoteImage([layer({"small": b"small\n"}), layer({"f": noise(12 * MIB, 5)}), layer({"top": b"top\n"})])
    image.put(registry, f"base-{victim}", "1")
    directory = context(tmp_path, f"FROM {proxy.host}/base-{victim}:1\nCOPY own /own\n")
    held = Fault(path="blobs/" + sha256(image.blobs[1]), hold_after=4 * MIB)
    proxy.faults = [held]
    with building(own_daemon, directory) as client:
        assert held.held.wait(60)
        end(own_daemon, client, victim)
        held.let_go.set()
        if victim != "boxshipd":
            finished(client, victim)
    # An image that didn't come as a whole is none.
    known = [each["Id"] for each in own_daemon.get("/images/json?all=1") if image.id == each["Id"]]
    assert known == ([] if victim in ("boxshipd", "client") else [image.id])
    nothing_is_left(own_daemon, partial=True)
    out = built(own_daemon, directory, tmp_path)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "small": b"small\n",
        "f": noise(12 * MIB, 5),
        "top": b"top\n",
        "own": b"own\n",
    }


@pytest.mark.parametrize("said", ["COPY big", "exporting layers", "sending tarball"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_while_it_copies_and_exports(own_daemon: Daemon, tmp_path: Path, victim: str, said: str):
    directory = context(tmp_path, "FROM busybox\nCOPY big /big\nCOPY --from=busybox /bin/busybox /again\n")
    archive = tmp_path / "image.tar"
    with building(own_daemon, directory, "-o", f"type=oci,compression=zstd,force-compression=true,dest={archive}") as client:
        until(client, said)
        end(own_daemon, client, victim)
        finished(client, victim)
    nothing_is_left(own_daemon)
    if victim != "client":
        own_daemon.cli("docker", "load", "-i", str(archive))
    assert same(built(own_daemon, directory, tmp_path), directory)
    own_daemon.kill()
    own_daemon.start()
    assert same(built(own_daemon, directory, tmp_path), directory), "what is on record is what was built"


class Site:
    """A server of one file, which stops in the middle of it until it is told to go on."""

    def __init__(self, server: socket.socket) -> None:
        self.address = f"http://127.0.0.1:{server.getsockname()[1]}/f"
        self.go = threading.Event()
        self._server = server
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(10_000)
                head = f'HTTP/1.1 200 OK\r\nContent-Length: {len(FILE)}\r\nETag: "x"\r\nConnection: close\r\n\r\n'
                connection.sendall(head.encode() + FILE[: 3 * MIB])
                self.go.wait(60)
                connection.sendall(FILE[3 * MIB :])


@pytest.fixture
def site() -> Iterator[Site]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        site = Site(server)
        yield site
        site.go.set()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_a_url_is_added(own_daemon: Daemon, tmp_path: Path, site: Site, victim: str):
    directory = context(tmp_path, f"FROM scratch\nADD {site.address} /f\n")
    downloads = own_daemon.data_root / "build/downloads"
    with building(own_daemon, directory) as client:
        wait_until(lambda: list(downloads.glob("new-*/new")), "some of it has come")
        end(own_daemon, client, victim)
        if victim == "client":
            # The rest never comes, so nobody may wait for it.
            nothing_is_left(own_daemon)
            assert os.listdir(downloads) == []
        site.go.set()
        finished(client, victim)
    nothing_is_left(own_daemon)
    assert (built(own_daemon, directory, tmp_path) / "f").read_bytes() == FILE
