"""Pulls by a daemon that is killed, that others stop needing, whose disk fills up; what they cost everybody else."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.daemons import on_small_disk, used
from support.faulty import Fault, FaultyProxy
from support.registry import Registry
from support.remote_images import RemoteImage, layer, noise, sha256

pytestmark = needs_root

MIB = 1 << 20


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultyProxy]:
    with FaultyProxy(registry.host) as proxy:
        yield proxy


class Pull:
    """A pull under way, of which every message is kept."""

    def __init__(self, daemon: Daemon, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(daemon.socket))
        self._socket.sendall(f"POST /images/create?fromImage={repository}&tag={tag} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        self.raw = b""
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            while data := self._socket.recv(65536):
                self.raw += data
        except OSError:
            pass

    @property
    def messages(self) -> list[dict]:
        lines = self.raw.partition(b"\r\n\r\n")[2].split(b"\r\n")
        return [json.loads(line) for line in lines[:-1] if line.strip()]

    def leave(self) -> None:
        """Go away."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def finish(self) -> list[dict]:
        """Wait for its end; all messages."""
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._socket.close()
        return self.messages


def one_layer(registry: Registry, repository: str, size: int, seed: int) -> RemoteImage:
    image = RemoteImage([layer({"big": noise(size, seed)})], "")
    image.put(registry, repository, "1")
    return image


def bytes_asked(proxy: FaultyProxy, digest: str) -> list[int]:
    """Where the requests for a blob begin."""
    asked = proxy.requests("GET", f"blobs/{digest}")
    return [int(seen.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]) for seen in asked]


def test_a_killed_daemon_goes_on_where_it_was(own_daemon: Daemon, registry: Registry, proxy: FaultyProxy):
    image = one_layer(registry, "killed", 40 * MIB, 21)
    # Two parts come whole, of the third a half.
    blob = "blobs/" + sha256(image.blobs[0])
    held = Fault(path=blob, hold_after=4 * MIB)
    proxy.faults = [Fault(path=blob, times=2), held]
    pull = Pull(own_daemon, f"{proxy.host}/killed:1")
    assert held.held.wait(60)
    partial = own_daemon.data_root / "content/ingest"
    wait_until(lambda: any(path.stat().st_blocks * 512 > 30 * MIB for path in partial.iterdir()), "most of it has come", 90)
    own_daemon.kill()
    pull.finish()
    held.let_go.set()
    proxy.seen.clear()
    own_daemon.start()
    again = Pull(own_daemon, f"{proxy.host}/killed:1").finish()
    assert again[-1]["status"].startswith("Status: Downloaded newer image")
    # What was noted of it before the kill doesn't come again.
    assert min(bytes_asked(proxy, sha256(image.blobs[0]))) >= 8 * MIB
    assert own_daemon.get(f"/images/{proxy.host}/killed:1/json")["Id"] == image.id


def test_killed_at_any_moment_there_is_an_image_or_none(own_daemon: Daemon, registry: Registry):
    image = RemoteImage([layer({f"f{n}": noise(300_000, n)}) for n in range(4)])
    image.put(registry, "moments", "1")
    name = f"{registry.host}/moments:1"
    for step in ("Pulling fs layer", "Downloading", "Download complete", "Extracting", "Pull complete", "Digest"):
        pull = Pull(own_daemon, name)
        wait_until(lambda pull=pull, step=step: step.encode() in pull.raw, f"the pull says {step}")
        own_daemon.kill()
        pull.finish()
        own_daemon.start()
        known = [shown["Id"] for shown in own_daemon.get("/images/json") if name in (shown["RepoTags"] or [])]
        assert known in ([], [image.id])
        if known:
            own_daemon.cli("docker", "rmi", name)
        snapshots = [path.name for path in (own_daemon.data_root / "snapshots").iterdir()]
        assert not [left for left in snapshots if left.startswith("unpacking")]
    assert Pull(own_daemon, name).finish()[-1]["status"].startswith("Status: Downloaded newer image")


def test_who_pulls_the_same_shares_it(daemon: Daemon, registry: Registry, proxy: FaultyProxy):
    image = one_layer(registry, "shared", 4 * MIB, 22)
    held = Fault(path="blobs/" + sha256(image.blobs[0]), hold_after=MIB)
    proxy.faults = [held]
    first = Pull(daemon, f"{proxy.host}/shared:1")
    assert held.held.wait(60)
    second = Pull(daemon, f"{proxy.host}/shared:1")
    wait_until(lambda: "Downloading" in str(second.messages), "the second is told how far it is")
    first.leave()
    held.let_go.set()
    said = second.finish()
    assert said[-1] == {"status": f"Status: Downloaded newer image for {proxy.host}/shared:1"}
    assert said[0] == {"status": "Pulling from shared", "id": "1"}
    assert len(proxy.requests("GET", "manifests")) == 1


def test_two_images_share_a_layer_that_is_coming(daemon: Daemon, registry: Registry, proxy: FaultyProxy):
    common = layer({"common": noise(3 * MIB, 23)})
    for tag in ("1", "2"):
        RemoteImage([common, layer({"own": tag.encode()})], "").put(registry, "common", tag)
    held = Fault(path="blobs/" + sha256(common), hold_after=MIB)
    proxy.faults = [held]
    first = Pull(daemon, f"{proxy.host}/common:1")
    assert held.held.wait(60)
    second = Pull(daemon, f"{proxy.host}/common:2")
    wait_until(
        lambda: "Pull complete" in str(second.messages) or "Download complete" in str(second.messages), "the other layer"
    )
    held.let_go.set()
    for pull in (first, second):
        assert pull.finish()[-1]["status"].startswith("Status: Downloaded newer image")
    assert all(start >= MIB - 65536 for start in bytes_asked(proxy, sha256(common))[1:])


def test_nobody_pulls_for_nobody(daemon: Daemon, registry: Registry, proxy: FaultyProxy):
    image = one_layer(registry, "left", 4 * MIB, 24)
    held = Fault(path="blobs/" + sha256(image.blobs[0]), hold_after=2 * MIB)
    proxy.faults = [held]
    pull = Pull(daemon, f"{proxy.host}/left:1")
    assert held.held.wait(60)
    wait_until(lambda: "Downloading" in str(pull.messages), "it has begun")
    pull.leave()
    partial = daemon.data_root / "content/ingest"
    # Its end is seen by the note that says what is there.
    wait_until(
        lambda: any(path.name.endswith(f"{sha256(image.blobs[0])[7:]}.ranges") for path in partial.iterdir()), "it has ended"
    )
    held.let_go.set()
    proxy.seen.clear()
    assert Pull(daemon, f"{proxy.host}/left:1").finish()[-1]["status"].startswith("Status: Downloaded newer image")
    assert min(bytes_asked(proxy, sha256(image.blobs[0]))) >= MIB


def test_pulls_that_hang_hold_up_no_start(daemon: Daemon, registry: Registry, proxy: FaultyProxy):
    """More pulls than there are places for them, all of them stuck: containers start as ever, and so do other pulls' jobs."""
    image = one_layer(registry, "hang", 2 * MIB, 27)
    held = Fault(path="blobs/" + sha256(image.blobs[0]), times=-1, hold_after=MIB)
    proxy.faults = [held]
    for number in range(20):
        registry.put_manifest("hang", f"t{number}", image.manifest, image.media_type)
    pulls = [Pull(daemon, f"{proxy.host}/hang:t{number}") for number in range(20)]
    assert held.held.wait(60)
    assert daemon.cli("docker", "run", "--rm", "--network", "none", "busybox", "echo", "started").stdout == b"started\n"
    held.let_go.set()
    held.times = 0
    for pull in pulls:
        assert pull.finish()[-1]["status"].startswith("Status: Downloaded newer image")


def test_a_full_disk(registry: Registry):
    """It is said so, the daemon stays usable, and nothing of the pull takes room any more."""
    one_layer(registry, "full", 60 * MIB, 25)
    with on_small_disk(48) as daemon:
        before = used(daemon.data_root)
        refused = daemon.cli("docker", "pull", f"{registry.host}/full:1", code=1)
        assert b"no space left on device" in refused.stderr
        wait_until(lambda: used(daemon.data_root) <= before + MIB, "the room is free again")
        assert daemon.cli("docker", "run", "--rm", "--network", "none", "busybox", "echo", "on").stdout == b"on\n"
        small = one_layer(registry, "full-small", MIB, 26)
        daemon.cli("docker", "pull", f"{registry.host}/full-small:1")
        assert daemon.get(f"/images/{registry.host}/full-small:1/json")["Id"] == small.id


def test_hostile_images_leave_nothing(daemon: Daemon, registry: Registry):
    """What isn't an image, or isn't what it says, is refused with nothing kept."""
    good = RemoteImage([layer({"good": b"1"})])
    for blob in (good.config, *good.blobs):
        registry.put_blob("hostile", blob)
    document = json.loads(good.manifest)
    cases = {
        "artifact": dict(document, config=dict(document["config"], mediaType="application/vnd.cncf.helm.config.v1+json")),
        "layers": dict(document, layers=document["layers"] * 2),
        "kind": dict(document, layers=[dict(document["layers"][0], mediaType="application/vnd.example")]),
    }
    said = {
        "artifact": b'Encountered remote "application/vnd.cncf.helm.config.v1+json"(unknown) when fetching',
        "layers": b"layers length mismatch",
        "kind": b"unsupported media type",
    }
    for tag, wrong in cases.items():
        registry.put_manifest("hostile", tag, wrong, good.media_type)
        refused = daemon.cli("docker", "pull", f"{registry.host}/hostile:{tag}", code=1)
        assert said[tag] in refused.stderr
    other = RemoteImage([layer({"other": b"2"})])
    registry.put_blob("hostile", other.config)
    mixed = dict(document, config=json.loads(other.manifest)["config"])
    registry.put_manifest("hostile", "mixed", mixed, good.media_type)
    refused = daemon.cli("docker", "pull", f"{registry.host}/hostile:mixed", code=1)
    assert b"layer diffID mismatch" in refused.stderr
    store = daemon.data_root / "content/blobs/sha256"
    for blob in (*good.blobs, other.config):
        wait_until(lambda blob=blob: not (store / sha256(blob)[7:]).exists(), "nothing of it is left")
