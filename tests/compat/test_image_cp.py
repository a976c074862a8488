"""``boxship image cp`` between two daemons: over a socket, TLS and ssh, from ours to Docker's client's view, and back."""

from __future__ import annotations

import io
import os
import select
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator

import boxship
import pytest
from boxship.transfer.images import State
from support.cli import Client
from support.daemon import Daemon
from support.daemons import running
from support.registry import Authority, Registry, free_port
from support.remote_images import OCI_INDEX, RemoteImage, index, layer
from support.ssh import SSHD, SSHServer
from support.terminal import Terminal


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Iterator[Daemon]:
    """The daemon that is to have what the first one has; it listens with TLS too."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    port = free_port()
    certificate, key = authority.issue("server")
    client_certificate, client_key = authority.issue("client")
    folder = tmp_path_factory.mktemp("certificates")
    for name, path in (("ca.pem", authority.ca), ("cert.pem", client_certificate), ("key.pem", client_key)):
        (folder / name).write_bytes(path.read_bytes())
    daemon = Daemon(
        *("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", str(authority.ca)),
        *("--tlscert", str(certificate), "--tlskey", str(key)),
    )
    daemon.tls_address, daemon.tls_directory = f"tcp://127.0.0.1:{port}", str(folder)
    with running(daemon):
        yield daemon


@pytest.fixture
def client(daemon, tmp_path) -> Client:
    return Client(daemon, "boxship", tmp_path)


@pytest.fixture
def image(client, other, request) -> Iterator[str]:
    """An image of the test's own at the first daemon."""
    name = f"cp/{request.node.name.lower().replace('[', '-').strip(']')[:60]}:1"
    container = client("create", "--network", "none", "busybox", "true").strip()
    client("commit", "-c", f"LABEL made={name}", container, name)
    client("rm", container)
    yield name
    for daemon in (client.daemon, other):
        daemon.request("DELETE", f"/images/{name}?force=1")


def shown(daemon: Daemon, image: str) -> dict:
    status, body = daemon.request("GET", f"/images/{image}/json")
    assert status == 200, body
    return body


def is_there(daemon: Daemon, image: str) -> bool:
    return daemon.request("GET", f"/images/{image}/json")[0] == 200


def check_the_same(first: Daemon, second: Daemon, image: str) -> None:
    ours, theirs = shown(first, image), shown(second, image)
    for key in ("Id", "RootFS", "Config", "Created", "Architecture", "RepoTags"):
        assert theirs[key] == ours[key], key


@pytest.fixture(params=["unix", "tcp", "ssh"])
def way(request, other, client) -> Iterator[list[str]]:
    """The flags that name the other daemon."""
    if request.param == "unix":
        yield ["--to", other.host]
    elif request.param == "tcp":
        yield ["--to", other.tls_address, "--to-tls", other.tls_directory]
    else:
        if SSHD is None:
            pytest.skip("no sshd")
        with SSHServer() as server:
            client.env["PATH"] = f"{server.programs}:{client.env['PATH']}"
            yield ["--to", f"{server.address}{other.socket}"]


def test_an_image_arrives_as_it_is(client, other, image, way):
    out = client("image", "cp", *way, image)
    assert out == f"Copied: {image} ({shown(client.daemon, image)['Id']})\n"
    check_the_same(client.daemon, other, image)
    assert client("image", "cp", *way, image).startswith(f"Already there: {image} (sha256:")
    run = subprocess.run(
        [*other.command("boxship"), "run", "--rm", "--network", "none", image, "echo", "works"],
        env=other.env(), capture_output=True, check=True,
    )  # fmt: skip
    assert run.stdout == b"works\n"


def test_an_image_comes_from_another_daemon(client, other, image):
    client("image", "cp", "-q", "--to", other.host, image)
    identifier = client("image", "inspect", "-f", "{{.Id}}", image).strip()
    client("rmi", image)
    assert client("image", "cp", "-q", "--from", other.host, image) == f"{identifier}\n"
    check_the_same(client.daemon, other, image)


def test_several_images_share_one_stream(client, other, image):
    client("tag", image, "cp/second:2")
    out = client("image", "cp", "--to", other.host, image, "cp/second:2")
    assert [line.split(" (")[0] for line in out.splitlines()] == [f"Copied: {image}", "Copied: cp/second:2"]
    other.request("DELETE", "/images/cp/second:2")
    assert client("image", "cp", "--to", other.host, "cp/second:2").startswith("Tagged: cp/second:2 (sha256:")
    check_the_same(client.daemon, other, image)
    for daemon in (client.daemon, other):
        daemon.request("DELETE", "/images/cp/second:2")


def test_a_name_moves_to_the_image_that_is_copied(client, other, image):
    client("image", "cp", "-q", "--to", other.host, image)
    client("tag", "busybox", image)
    client("image", "cp", "-q", "--to", other.host, image)
    assert shown(other, image)["Id"] == shown(client.daemon, "busybox")["Id"]


def test_by_its_id_an_image_has_no_name_there(client, other, image):
    identifier = shown(client.daemon, image)["Id"]
    short = identifier.removeprefix("sha256:")[:12]
    assert client("image", "cp", "-q", "--to", other.host, short) == f"{identifier}\n"
    assert shown(other, identifier)["RepoTags"] == []
    other.request("DELETE", f"/images/{identifier}")


@pytest.fixture
def of_two_platforms(client, other) -> Iterator[str]:
    """An image of which the first daemon has two platforms."""
    with Registry() as registry:
        images = [
            RemoteImage([layer({"etc/cpu": cpu.encode()})], architecture=cpu, variant=variant)
            for cpu, variant in (("amd64", ""), ("arm64", "v8"))
        ]
        for image in images:
            image.put(registry, "cp/platforms", image.architecture)
        registry.put_manifest("cp/platforms", "all", index(*images), OCI_INDEX)
        name = f"{registry.host}/cp/platforms:all"
        for platform in ("linux/amd64", "linux/arm64"):
            client("pull", "-q", "--platform", platform, name)
    yield name
    for daemon in (client.daemon, other):
        daemon.request("DELETE", f"/images/{name}?force=1")


def platforms(daemon: Daemon, image: str) -> dict[str, str]:
    """The platforms that a daemon has of an image, with their manifests' digests."""
    manifests = daemon.get(f"/v1.51/images/{image}/json?manifests=1")["Manifests"]
    return {m["ImageData"]["Platform"]["architecture"]: m["ID"] for m in manifests if m["Available"]}


def test_every_platform_arrives(client, other, of_two_platforms):
    name = of_two_platforms
    assert sorted(platforms(client.daemon, name)) == ["amd64", "arm64"]
    assert client("image", "cp", "--to", other.host, name).startswith(f"Copied: {name}")
    assert platforms(other, name) == platforms(client.daemon, name)
    assert client("image", "cp", "--to", other.host, name).startswith(f"Already there: {name}")


def test_what_is_missing_of_an_image_is_sent_later(client, other, of_two_platforms):
    name = of_two_platforms
    assert client("image", "cp", "--platform", "linux/amd64", "--to", other.host, name).startswith(f"Copied: {name}")
    assert sorted(platforms(other, name)) == ["amd64"]
    assert client("image", "cp", "--platform", "linux/amd64", "--to", other.host, name).startswith(f"Already there: {name}")
    assert client("image", "cp", "--to", other.host, name).startswith(f"Copied: {name}")
    assert platforms(other, name) == platforms(client.daemon, name)
    said = client.both("image", "cp", "--platform", "linux/s390x", "--to", other.host, name, code=1)[1]
    assert said == f'{name} has no image for that platform: {{"architecture":"s390x","os":"linux"}}\n'


def test_a_container_becomes_an_image_that_acts_like_it(client, other):
    settings = ["-e", "A=x y $z \"q\" \\ 'e'", "-l", "k=v w", "-w", "/tmp", "-u", "1000:1000", "--stop-signal", "SIGINT"]
    command = ["sh", "-c", "cat /tmp/made; echo $A; id -u; pwd"]
    health = ["--health-cmd", "test -e /tmp/made", "--health-interval", "3s", "--health-retries", "2"]
    container = client("create", "--name", "cp-box", "--network", "none", *settings, *health, "busybox", *command).strip()
    client("cp", "-", f"{container}:/tmp", stdin=_tar_of("made", "by hand\n"))
    try:
        out = client("image", "cp", "--container", "--to", other.host, "--as", "cp/box:1", "cp-box")
        assert out.startswith("Copied: cp/box:1 (sha256:")
        assert client("image", "cp", "-q", "--container", "--to", other.host, "cp-box").startswith("sha256:")
        assert is_there(other, "cp-box:latest")
        assert client("start", "-a", "cp-box") == "by hand\nx y $z \"q\" \\ 'e'\n1000\n/tmp\n"
        run = [*other.command("boxship"), "run", "--rm", "--network", "none", "cp/box:1"]
        there = subprocess.run(run, env=other.env(), capture_output=True, check=True)
        assert there.stdout == b"by hand\nx y $z \"q\" \\ 'e'\n1000\n/tmp\n"
        here, config = client.daemon.inspect("cp-box")["Config"], shown(other, "cp/box:1")["Config"]
        assert sorted(config["Env"]) == sorted(here["Env"])
        for key in ("Cmd", "Entrypoint", "Healthcheck", "Labels", "User", "WorkingDir", "StopSignal"):
            assert config.get(key) == here.get(key), key
    finally:
        client("rm", "-f", "cp-box")
        for name in ("cp/box:1", "cp-box"):
            other.request("DELETE", f"/images/{name}")


def test_a_setting_that_no_instruction_holds_is_named(client, other):
    client("create", "--name", "cp-lines", "--network", "none", "-e", "A=one\ntwo", "busybox", "true")
    try:
        said = client.both("image", "cp", "--container", "--to", other.host, "cp-lines", code=1)[1]
        assert said == "container cp-lines has a setting with a line break, which an import can't carry: ENV A\n"
        assert not is_there(other, "cp-lines")
    finally:
        client("rm", "cp-lines")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["busybox"], "image cp needs another daemon: --to HOST, --from HOST or both"),
        (["--to", "SELF", "busybox"], "source and destination are the same daemon: SELF"),
        (["--to", "OTHER", "no-such-image"], "Error response from daemon: No such image: no-such-image:latest"),
        (["--to", "unix:///nowhere", "busybox"], "Cannot connect to the Boxship daemon at unix:///nowhere"),
        (["--to", "OTHER", "--container", "no-such-box"], "Error response from daemon: No such container: no-such-box"),
        (["--to", "OTHER", "--as", "x", "busybox"], "--as names the image that a container becomes"),
        (["--to", "OTHER", "--to-tls", "/tmp", "busybox"], "--to-tls needs a --to address that begins with tcp://"),
        (["--to", "OTHER", "--platform", "a/b/c/d", "busybox"], '"a/b/c/d": cannot parse platform specifier'),
    ],
)
def test_refusals(client, other, args, error):
    places = {"SELF": client.daemon.host, "OTHER": other.host}
    said = client.both("image", "cp", *(places.get(arg, arg) for arg in args), code=1)[1]
    assert said.startswith(error.replace("SELF", client.daemon.host).replace("boxship", "docker")), said


def test_what_is_cut_off_is_not_there(client, own_daemon, other, image):
    """The source is killed while it sends: the destination has nothing of it, and the command says so."""
    container = client("create", "--network", "none", "busybox").strip()
    data = os.urandom(16 << 20)
    client.daemon.cli("boxship", "cp", "-", f"{container}:/tmp", stdin=_tar_bytes("big", data))
    client("commit", container, image)
    client("rm", container)
    # Through a socket of the test's own that ends after a megabyte.
    with _Cut(str(client.daemon.socket), 1 << 20) as cut:
        said = client.both("image", "cp", "--from", cut.address, "--to", own_daemon.host, image, code=1)[1]
    assert "cut off" in said or "hung up" in said or "unexpected" in said.lower(), said
    assert not is_there(own_daemon, image)
    assert client("image", "cp", "--to", own_daemon.host, image).startswith("Copied: ")


def test_a_terminal_shows_how_much_was_sent(client, other, image):
    command = [sys.executable, "-m", "boxship.cli.main", "image", "cp", "--to", other.host, image]
    terminal = Terminal(command, client.env, columns=60)
    terminal.expect(f"\r\x1b[2K{image}: ".encode())
    terminal.expect(b" sent")
    terminal.expect(f"\r\x1b[2KCopied: {image} (".encode())
    assert terminal.end() == 0


class _Cut:
    """A socket that passes everything on to a daemon's, and ends every connection after so many bytes of answers."""

    def __init__(self, target: str, limit: int) -> None:
        self._target, self._limit = target, limit
        self._home = tempfile.mkdtemp(prefix="boxship-cut-")
        self._path = f"{self._home}/cut.sock"
        self.address = f"unix://{self._path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._serve)]

    def __enter__(self) -> _Cut:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self._home)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._relay, args=(sock,)))
            self._threads[-1].start()

    def _relay(self, sock) -> None:
        with sock, socket.socket(socket.AF_UNIX) as far:
            far.connect(self._target)
            answered = 0
            while answered < self._limit:
                for ready in select.select([sock, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is far:
                        answered += len(data)
                    (far if ready is sock else sock).sendall(data)


def _tar_bytes(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o644
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _tar_of(name: str, text: str) -> str:
    return _tar_bytes(name, text.encode()).decode()


def test_the_sdk_copies_too(daemon, other, image):
    with boxship.Client(daemon.host) as source, boxship.Client(other.host) as destination:
        sent: list[int] = []
        (moved,) = source.images.copy_to(destination.api, image, progress=sent.append)
        assert moved.identifier == source.images.inspect(image).id == destination.images.inspect(image).id
        assert sent == sorted(sent)
        assert sent[-1] > 100_000
        assert moved.state is State.COPIED
