"""kill -9 of the daemon in the middle of each kind of step of a build, and disks that are full.

What is there afterwards is whole, it is all on record, and a build goes on from it to the same result.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from support.daemon import Daemon, wait_until
from support.daemons import on_small_disk, used
from support.remote_images import noise

pytestmark = [needs_root, pytest.mark.timeout(600)]

DOCKERFILE = """
FROM busybox AS first
RUN echo one > /one
RUN --mount=type=cache,target=/c head -c 30000000 /dev/urandom > /c/part; echo ready; echo two > /two
FROM busybox
COPY --from=first /one /two /from/
COPY big /big/
RUN echo last > /last
"""

MOMENTS = {
    "context": "load context",
    "command": "RUN echo one",
    "command with a mount": " ready",
    "copy from a stage": "COPY --from=first",
    "copy from the context": "COPY big",
    "last command": "RUN echo last",
    "export": "exporting to image",
}


def project(tmp_path: Path, size: int = 20_000_000) -> Path:
    directory = tmp_path / "project"
    (directory / "big").mkdir(parents=True)
    for number in range(4):
        (directory / "big" / f"f{number}").write_bytes(noise(size // 4, number))
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return directory


def check(daemon: Daemon) -> None:
    """Everything in the stores is on record, and everything on record is in the stores."""
    data = daemon.data_root
    assert not [name for name in os.listdir(data / "snapshots") if name.startswith(("unpacking", "removing"))]
    assert os.listdir(data / "content/ingest") == []
    assert os.listdir(data / "build/scratch") == []
    listed = daemon.get("/system/df")["BuildCache"]
    mounts = [record["ID"] for record in listed if record["Type"] == "exec.cachemount"]
    assert sorted(os.listdir(data / "build/mounts")) == sorted(mounts)
    assert not any(record["InUse"] for record in listed)


def killed_when(daemon: Daemon, directory: Path, said: str) -> None:
    """Begin a build, and kill the daemon when it says something."""
    client = daemon.popen(
        "boxship", "build", "--progress=plain", "-t", "mine", str(directory), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with client:
        for line in client.stderr:
            if said in line.decode():
                break
        daemon.kill()
        client.stderr.read()
    daemon.start()


def test_killed_in_each_kind_of_step(own_daemon: Daemon, tmp_path):
    directory = project(tmp_path)
    for said in MOMENTS.values():
        killed_when(own_daemon, directory, said)
        check(own_daemon)
        # What was recorded in an earlier round would make the next one end too soon.
        own_daemon.request("POST", "/build/prune?all=1", None)
        own_daemon.cli("docker", "rmi", "-f", "mine", code=None)
    own_daemon.cli("boxship", "build", "-t", "mine", str(directory))
    checked = "cat /from/one /from/two /last; cat /big/* | sha256sum"
    shown = own_daemon.cli("docker", "run", "--rm", "--network=none", "mine", "sh", "-c", checked).stdout
    assert shown.startswith(b"one\ntwo\nlast\n")
    own_daemon.kill()
    own_daemon.start()
    check(own_daemon)
    assert own_daemon.cli("docker", "run", "--rm", "--network=none", "mine", "sh", "-c", checked).stdout == shown


def step_process(daemon: Daemon) -> int:
    """The process of the only command that says that it waits."""
    return wait_until(
        lambda: next((pid for pid in daemon.pids() if b"echo waiting" in command_line(pid).replace(b"\0", b" ")), 0),
        "the command runs",
    )


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def victims(daemon: Daemon, client: subprocess.Popen[bytes]) -> dict[str, Callable[[], list[int]]]:
    """Who can be killed, and which processes that is."""
    return {
        "supervisor": lambda: [daemon.supervisor_pid()],
        "zygote": lambda: [daemon.zygote_pid()],
        "command": lambda: [step_process(daemon)],
        "shim": lambda: [int(Path(f"/proc/{step_process(daemon)}/stat").read_text().rpartition(")")[2].split()[1])],
        "client": lambda: [client.pid],
        "supervisor and shim": lambda: [daemon.supervisor_pid(), *victims(daemon, client)["shim"]()],
    }


def test_others_killed_while_a_command_runs(own_daemon: Daemon, tmp_path):
    """Whoever it is, the build ends, right or with an error, and the next one is right."""
    for number, victim in enumerate(victims(own_daemon, None)):  # type: ignore[arg-type]
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / "Dockerfile").write_text(
            "FROM busybox\nRUN echo one > /one\n"
            f"RUN --mount=type=cache,id=v{number},target=/c echo before > /part; echo waiting; "
            # The first time there is somebody to be killed meanwhile.
            "[ -e /c/again ] || { touch /c/again; sleep 3; }; echo two > /two\n"
        )
        command = ("build", "--progress=plain", "-t", f"v{number}", str(directory))
        client = own_daemon.popen("boxship", *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with client:
            for line in client.stderr:
                if line.rstrip().endswith(b" waiting"):
                    break
            for pid in victims(own_daemon, client)[victim]():
                os.kill(pid, signal.SIGKILL)
            client.stderr.read()
        assert client.returncode == 0 or victim != "zygote"
        wait_until(lambda: not os.listdir(own_daemon.data_root / "transients"), f"nothing runs after the {victim}'s death", 30)
        own_daemon.cli("boxship", *command)
        shown = own_daemon.cli("docker", "run", "--rm", "--network=none", f"v{number}", "cat", "/one", "/part", "/two").stdout
        assert shown == b"one\nbefore\ntwo\n", victim
        check(own_daemon)


def test_killed_while_it_downloads_or_exports(own_daemon: Daemon, tmp_path):
    """What comes of a URL, and what goes out as an archive, a directory or cache."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        directory = project(tmp_path, 4_000_000)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/f"
        (directory / "Dockerfile").write_text(f"FROM busybox\nADD {address} /f\n")
        client = own_daemon.popen("boxship", "build", str(directory), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with client:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\nETag: x\r\n\r\n" + bytes(3_000_000))
                wait_until(lambda: downloads(own_daemon), "some of it has come")
                own_daemon.kill()
    own_daemon.start()
    assert downloads(own_daemon) == []
    check(own_daemon)
    (directory / "Dockerfile").write_text("FROM busybox\nCOPY big /big\nRUN echo last > /last\n")
    outputs = {
        "oci": ("-o", f"type=oci,dest={tmp_path}/oci.tar"),
        "local": ("-o", f"{tmp_path}/out"),
        "cache": ("--cache-to", f"type=local,dest={tmp_path}/cache", "-t", "mine"),
    }
    for flags in outputs.values():
        command = ("build", "--progress=plain", *flags, str(directory))
        client = own_daemon.popen("boxship", *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with client:
            for line in client.stderr:
                if b"exporting" in line or b"sending" in line:
                    break
            own_daemon.kill()
            client.stderr.read()
        own_daemon.start()
        check(own_daemon)
        own_daemon.cli("boxship", *command)
    assert (tmp_path / "out/last").read_text() == "last\n"
    assert (tmp_path / "out/big/f0").read_bytes() == (directory / "big/f0").read_bytes()
    assert (tmp_path / "cache/index.json").exists()
    own_daemon.cli("docker", "load", "-i", str(tmp_path / "oci.tar"))
    check(own_daemon)


def downloads(daemon: Daemon) -> list[str]:
    """What is in the making there; what is kept has a digest for its name."""
    directory = daemon.data_root / "build/downloads"
    return [name for name in os.listdir(directory) if len(name) != 64] if directory.exists() else []


@pytest.fixture
def small() -> Iterator[Daemon]:
    """A daemon whose disk is a small tmpfs."""
    with on_small_disk(48) as daemon:
        yield daemon


@pytest.mark.parametrize(
    ("dockerfile", "size"),
    [
        ("FROM busybox\nRUN echo one > /one\nRUN head -c 60000000 /dev/urandom > /big\n", 0),
        ("FROM busybox\nRUN echo one > /one\nRUN --mount=type=cache,target=/c head -c 60000000 /dev/urandom > /c/big\n", 0),
        # It fits as a context, and not as a layer as well.
        ("FROM busybox\nRUN echo one > /one\nCOPY big /big\n", 24_000_000),
        ("FROM busybox\nRUN echo one > /one\nCOPY big /big\n", 60_000_000),
    ],
    ids=["command", "cache mount", "layer", "context"],
)
def test_full_disks(small: Daemon, tmp_path, dockerfile, size):
    directory = project(tmp_path, size)
    (directory / "Dockerfile").write_text(dockerfile)
    before = used(small.data_root)
    done = small.cli("boxship", "build", "--progress=plain", str(directory), code=1)
    # The first is what the program that ran into it says.
    assert b"I/O error" in done.stderr or b"o space left on device" in done.stderr
    small.request(
        "POST", f"/build/prune?filters={json.dumps({'type': ['exec.cachemount']})}".replace('"', "%22").replace(" ", "")
    )
    wait_until(lambda: used(small.data_root) <= before + (1 << 20), "the room is free again")
    check(small)
    (directory / "Dockerfile").write_text("FROM busybox\nRUN echo one > /one\nRUN echo two > /two\n")
    for number in range(4):
        (directory / "big" / f"f{number}").write_bytes(b"")
    small.cli("boxship", "build", "-t", "mine", str(directory))
    assert small.cli("docker", "run", "--rm", "--network=none", "mine", "cat", "/one", "/two").stdout == b"one\ntwo\n"
