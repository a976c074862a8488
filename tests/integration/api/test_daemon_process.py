"""The daemon as a process: how it starts, is refused, reloads, and ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import needs_root
from support.busybox import busybox_archive
from support.daemon import Daemon, wait_until
from support.daemons import stop_and_check

CERTIFICATES = Path(__file__).parents[2] / "unit" / "api" / "certificates"
TLS_FLAGS = (
    "--tlsverify",
    f"--tlscacert={CERTIFICATES}/ca.pem",
    f"--tlscert={CERTIFICATES}/server.pem",
    f"--tlskey={CERTIFICATES}/server-key.pem",
)

pytestmark = needs_root


@pytest.fixture
def fresh(request):
    """A daemon that isn't started yet."""
    daemon = Daemon(*getattr(request, "param", ()))
    yield daemon
    stop_and_check(daemon)


def run(daemon: Daemon, *flags: str) -> subprocess.CompletedProcess[str]:
    """Start another boxshipd with some of the daemon's places and wait for its end."""
    command = [sys.executable, "-m", "boxshipd.main", "--exec-root", str(daemon.home / "other"), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_daemon_in_the_way_is_respected(fresh):
    fresh.start()
    other = ("--data-root", str(fresh.home / "other-data"), "--pidfile", str(fresh.home / "other-pid"))
    for flags, message in [
        (("--data-root", str(fresh.data_root), "--pidfile", "", "-H", "unix:///none"), "is in use by another daemon"),
        ((*other[:2], "--pidfile", str(fresh.home / "pid"), "-H", "unix:///none"), "is still running: pid file"),
        ((*other, "-H", fresh.host), "another daemon serves it"),
    ]:
        result = run(fresh, *flags)
        assert result.returncode == 1
        assert message in result.stderr
    assert fresh.get("/version")["ApiVersion"] == "1.51"


def test_a_dead_daemons_process_id_may_be_anybodys(fresh):
    fresh.start()
    fresh.kill()
    (fresh.home / "pid").write_text(str(os.getpid()))
    fresh.start()
    assert int((fresh.home / "pid").read_text()) == fresh.process.pid


def test_sigterm_leaves_neither_socket_nor_pid_file(fresh):
    fresh.start()
    assert int((fresh.home / "pid").read_text()) == fresh.process.pid
    assert fresh.terminate() == 0
    assert not fresh.socket.exists()
    assert not (fresh.home / "pid").exists()


def test_shutting_everything_down_is_nothing_to_warn_of(fresh):
    fresh.start()
    fresh.cli("boxship", "load", stdin=busybox_archive())
    check = ("--health-cmd", "true", "--health-interval", "1s", "--stop-signal", "KILL")
    ident = fresh.cli("boxship", "run", "-d", "--network", "none", *check, "busybox", "sleep", "1000").stdout.decode().strip()
    wait_until(lambda: fresh.inspect(ident)["State"]["Health"]["Status"] == "healthy", "it is healthy")
    before = fresh.log()
    fresh.cli("boxship", "system", "shutdown")
    assert fresh.process.wait(30) == 0
    said = fresh.log().removeprefix(before)
    assert "the daemon ends" in said
    assert "level=warning" not in said
    assert "level=error" not in said


def test_followers_dont_hold_the_end_up(fresh):
    fresh.start()
    with socket.socket(socket.AF_UNIX) as follower:
        follower.connect(str(fresh.socket))
        follower.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
        assert follower.recv(4096).startswith(b"HTTP/1.1 200")
        before = time.monotonic()
        assert fresh.terminate() == 0
        assert time.monotonic() - before < 4


def test_sighup_reloads(tmp_path):
    path = tmp_path / "daemon.json"
    path.write_text('{"labels": ["a=1"]}')
    daemon = Daemon("--config-file", str(path))
    try:
        daemon.start()
        assert daemon.get("/info")["Labels"] == ["a=1"]
        path.write_text('{"labels": ["b=2"], "live-restore": false, "default-ipc-mode": "shareable"}')
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: daemon.get("/info")["Labels"] == ["b=2"], "the labels have changed")
        assert not daemon.get("/info")["LiveRestoreEnabled"]
        wait_until(lambda: "not before the daemon starts again: default-ipc-mode" in daemon.log(), "the rest is named")
        events = daemon.raw(f"GET /events?since=0&until={time.time()} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
        assert b'"default-runtime":"boxrun"' in events
        path.write_text("{nonsense")
        daemon.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the configuration was not reloaded" in daemon.log(), "the refusal is logged")
        assert daemon.get("/info")["Labels"] == ["b=2"]
    finally:
        stop_and_check(daemon)


def test_tcp_that_anybody_could_reach_is_refused(tmp_path):
    command = [sys.executable, "-m", "boxshipd.main", "--data-root", str(tmp_path), "--pidfile", "", "-H", "tcp://127.0.0.1:0"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    assert "can start privileged containers and so is root here" in result.stderr


@pytest.mark.parametrize("fresh", [("-H", "tcp://127.0.0.1:0", *TLS_FLAGS)], indirect=True)
def test_dockers_client_over_tls(fresh, tmp_path):
    fresh.start()
    port = fresh.log().rpartition("tcp://127.0.0.1:")[2].split('"')[0]
    flags = ["--tlsverify", f"--tlscacert={CERTIFICATES}/ca.pem"]
    docker = [*fresh.command("docker"), "-H", f"tcp://localhost:{port}"]
    ours = [f"--tlscert={CERTIFICATES}/client.pem", f"--tlskey={CERTIFICATES}/client-key.pem"]
    theirs = [f"--tlscert={CERTIFICATES}/stranger.pem", f"--tlskey={CERTIFICATES}/stranger-key.pem"]
    version = subprocess.run([*docker, *flags, *ours, "version"], capture_output=True, text=True, timeout=30, check=False)
    assert "Server: Boxship" in version.stdout
    refused = subprocess.run([*docker, *flags, *theirs, "version"], capture_output=True, text=True, timeout=30, check=False)
    assert refused.returncode != 0
    assert "Boxship" not in refused.stdout
    data = os.urandom(3_000_000)
    echo = subprocess.run(
        [*docker, *flags, *ours, "run", "--rm", "-i", "--network", "none", "boxship/base", "cat"],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (echo.returncode, echo.stderr) == (0, b"")
    assert echo.stdout == data


def test_sockets_and_readiness_of_systemd(tmp_path):
    """What systemd does for a service with Type=notify and a socket unit: a listening descriptor 3, and two variables."""
    daemon = Daemon()
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(tmp_path / "notify"))
    ready.settimeout(30)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(daemon.socket))
    listening.listen()
    script = 'exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    command = [
        *(sys.executable, "-m", "boxshipd.main", "-H", "fd://", "--pidfile", ""),
        *("--data-root", str(daemon.data_root), "--exec-root", str(daemon.exec_root), "--cgroup-parent", f"/{daemon.name}"),
    ]
    with open(daemon.home / "log", "ab") as log:
        daemon.process = subprocess.Popen(
            ["sh", "-c", script, "sh", *command],
            stdin=listening,
            env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")},
            stderr=log,
        )
    try:
        assert ready.recv(100) == b"READY=1"
        assert daemon.get("/version")["Version"]
        daemon.process.terminate()
        assert ready.recv(100) == b"STOPPING=1"
        assert daemon.process.wait(30) == 0
        assert daemon.socket.exists(), "the socket is systemd's, not the daemon's"
        daemon.socket.unlink()
    finally:
        listening.close()
        ready.close()
        stop_and_check(daemon)


def test_the_client_that_leaves_does_not_undo_a_start(fresh):
    fresh.start()
    body = {"Image": "boxship/base", "Cmd": ["sh", "-c", "sleep 60"], "HostConfig": {"NetworkMode": "none"}}
    status, created = fresh.request("POST", "/containers/create?name=cat", body)
    assert status == 201
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(fresh.socket))
        client.sendall(b"POST /containers/cat/start HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    fresh.wait_state("cat", "running")
    assert fresh.request("DELETE", f"/containers/{created['Id']}?force=1")[0] == 204


def test_attached_streams_outlive_the_daemon(fresh):
    """The client's socket is the container's: neither the daemon's end nor its start is in the way."""
    fresh.start()
    body = {
        "Image": "boxship/base",
        "Cmd": ["cat"],
        "OpenStdin": True,
        "StdinOnce": True,
        "HostConfig": {"NetworkMode": "none"},
    }
    assert fresh.request("POST", "/containers/create?name=cat", body)[0] == 201
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(fresh.socket))
    head = b"POST /containers/cat/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    # The first words of stdin travel in the same packet as the request.
    client.sendall(head + b"early\n")
    reader = client.makefile("rb")
    assert reader.readline() == b"HTTP/1.1 101 UPGRADED\r\n"
    while reader.readline() != b"\r\n":
        pass
    assert fresh.request("POST", "/containers/cat/start")[0] == 204
    assert reader.read(14) == b"\x01\0\0\0\0\0\0\x06early\n"
    fresh.kill()
    client.sendall(b"meanwhile\n")
    assert reader.read(18) == b"\x01\0\0\0\0\0\0\x0ameanwhile\n"
    fresh.start()
    client.sendall(b"later\n")
    client.shutdown(socket.SHUT_WR)
    assert reader.read() == b"\x01\0\0\0\0\0\0\x06later\n"
    client.close()
    assert fresh.wait_state("cat", "exited")["State"]["ExitCode"] == 0
    assert fresh.request("DELETE", "/containers/cat")[0] == 204


def test_a_program_that_is_not_there_is_the_requests_mistake(fresh):
    fresh.start()
    body = {"Image": "boxship/base", "Cmd": ["/no/such/program"], "HostConfig": {"NetworkMode": "none"}}
    assert fresh.request("POST", "/containers/create?name=bad", body)[0] == 201
    status, answer = fresh.request("POST", "/containers/bad/start")
    assert status == 400
    assert "/no/such/program" in answer["message"]
    assert fresh.request("DELETE", "/containers/bad")[0] == 204


def test_many_attaches_and_drops_leave_no_descriptor_behind(fresh):
    fresh.start()
    body = {"Image": "boxship/base", "Cmd": ["cat"], "OpenStdin": True, "HostConfig": {"NetworkMode": "none"}}
    assert fresh.request("POST", "/containers/create?name=cat", body)[0] == 201
    assert fresh.request("POST", "/containers/cat/start")[0] == 204
    head = b"POST /containers/cat/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    def attach_and_drop() -> None:
        for _ in range(25):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(fresh.socket))
                client.sendall(head)
                assert client.recv(4096).startswith(b"HTTP/1.1 101")

    attach_and_drop()
    descriptors = f"/proc/{fresh.process.pid}/fd"
    before = len(os.listdir(descriptors))
    threads = [threading.Thread(target=attach_and_drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(os.listdir(descriptors)) <= before, "every descriptor is closed")
    assert fresh.request("DELETE", "/containers/cat?force=1")[0] == 204


def test_info_and_version_tell_dockers_client_what_it_wants(fresh):
    fresh.start()
    result = fresh.cli("docker", "info", "--format", "{{json .}}")
    info = json.loads(result.stdout)
    assert (info["ServerVersion"], info["Driver"], info["OSType"]) == ("0.1.0", "overlay2", "linux")
    assert info["CgroupVersion"] in ("1", "2")
    assert "ServerErrors" not in info
    assert b"Server: Boxship" in fresh.cli("docker", "version").stdout
