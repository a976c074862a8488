"""Isolation as Docker's command line, docker-py and ours ask for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import docker
import pytest
from docker.types import DeviceRequest, Ulimit
from support.daemon import DOCKER, Daemon
from support.daemons import stocked
from support.terminal import Terminal

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]
SPECIFICATION = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [{"name": name, "containerEdits": {"env": [f"GPU={name}"]}} for name in ("all", "0")],
}

# The library leaves the sockets of its streams to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(shutil.which("runc") is None, reason="no runc"),
]


@pytest.fixture(scope="module")
def daemon():
    daemon = Daemon()
    daemon.flags = (*daemon.flags, "--cdi-spec-dir", str(daemon.home / "cdi"))
    (daemon.home / "cdi").mkdir()
    (daemon.home / "cdi/gpu.json").write_text(json.dumps(SPECIFICATION))
    with stocked(daemon):
        yield daemon


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def run(daemon: Daemon, client: str, *args: str, **options) -> list[str]:
    return daemon.cli(client, "run", "--rm", "--network", "none", *args, **options).stdout.decode().splitlines()


def test_another_runtime(daemon, client):
    assert run(daemon, client, "--runtime", "runc", "busybox", "echo", "hello") == ["hello"]
    result = daemon.cli(client, "run", "--rm", "--network", "none", "--runtime", "runc", "busybox", "nosuch", code=127)
    assert b'exec: "nosuch": executable file not found in $PATH' in result.stderr
    result = daemon.cli(client, "run", "--rm", "--runtime", "nosuch", "busybox", "true", code=125)
    assert b"unknown or invalid runtime name: nosuch" in result.stderr
    assert b"runc" in daemon.cli(client, "info").stdout


def test_a_terminal_of_another_runtimes_container(daemon, client):
    command = [*daemon.command(client), "run", "--rm", "-it", "--network", "none", "--runtime", "runc", "busybox", "sh"]
    terminal = Terminal(command, daemon.env(), rows=33, columns=99)
    terminal.expect(b"# ")
    terminal.send(b"stty size; tty; exit 6\n")
    terminal.expect(b"33 99")
    terminal.expect(b"/dev/pts/0")
    assert terminal.end() == 6


def test_input_of_another_runtimes_container(daemon, client):
    assert run(daemon, client, "-i", "--runtime", "runc", "busybox", "cat", stdin=b"through\n") == ["through"]


def test_devices_and_gpus(daemon, client):
    assert run(daemon, client, "--device", "/dev/zero:/dev/nought:r", "busybox", "stat", "-c", "%t:%T", "/dev/nought") == [
        "1:5"
    ]
    script = ["busybox", "sh", "-c", "echo $GPU"]
    assert run(daemon, client, "--device", "nvidia.com/gpu=0", *script) == ["0"]
    assert run(daemon, client, "--gpus", "all", *script) == ["all"]
    assert run(daemon, client, "--gpus", '"device=0"', *script) == ["0"]
    result = daemon.cli(client, "run", "--rm", "--device", "nvidia.com/gpu=7", "busybox", "true", code=125)
    assert b"unresolvable CDI devices nvidia.com/gpu=7" in result.stderr


def test_modes_and_security_options(daemon, client):
    name = f"donor-{client}"
    daemon.cli(client, "run", "-d", "--name", name, "--ipc", "shareable", "--shm-size", "1m", "busybox", "sleep", "1000")
    try:
        lines = run(
            daemon, client, "--ipc", f"container:{name}", "--pid", f"container:{name}", "busybox", "df", "-k", "/dev/shm"
        )
        assert lines[-1].split()[1] == "1024"
    finally:
        daemon.cli(client, "rm", "-f", name)
    show = ["busybox", "grep", "-E", "^(NoNewPrivs|Seccomp):", "/proc/self/status"]
    lines = run(daemon, client, "--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined", *show)
    assert [line.split()[1] for line in lines] == ["1", "0"]
    lines = run(daemon, client, "--security-opt", "systempaths=unconfined", "busybox", "wc", "-c", "/proc/keys")
    assert int(lines[0].split()[0]) > 0


def test_what_the_machine_cannot_give_is_a_warning(daemon, client):
    result = daemon.cli(
        client, "run", "--rm", "--network", "none", "--security-opt", "apparmor=mine", "busybox", "true", code=None
    )
    if Path("/sys/module/apparmor").exists():
        assert b"AppArmor profiles are not available" in result.stderr
    else:
        assert result.returncode == 0
        assert b"WARNING: --security-opt apparmor=mine has no effect: this kernel has no AppArmor" in result.stderr


def test_storage_options(daemon, client):
    result = daemon.cli(client, "run", "--rm", "--storage-opt", "size=1g", "busybox", "true", code=125)
    assert b"--storage-opt" in result.stderr


def test_docker_py(daemon):
    api = docker.DockerClient(base_url=daemon.host)
    try:
        everything = {"network_mode": "none", "remove": True}
        out = api.containers.run(
            "busybox",
            ["sh", "-c", "echo $GPU; ulimit -n; id -G; cat /proc/self/oom_score_adj; stat -c %t:%T /dev/nought"],
            device_requests=[DeviceRequest(driver="cdi", device_ids=["nvidia.com/gpu=0"])],
            ulimits=[Ulimit(name="nofile", soft=64, hard=128)],
            group_add=["77"],
            oom_score_adj=99,
            devices=["/dev/zero:/dev/nought:rwm"],
            security_opt=["no-new-privileges"],
            **everything,
        )
        assert out.decode().splitlines() == ["0", "64", "0 77", "99", "1:5"]
        assert api.containers.run("busybox", ["echo", "other"], runtime="runc", **everything) == b"other\n"
        assert set(api.info()["Runtimes"]) >= {"boxrun", "runc"}
    finally:
        api.close()
