"""Further programs in running containers, with both command lines and both libraries."""

from __future__ import annotations

import base64
import json
import os
import socket
from contextlib import closing

import aiodocker
import docker
import pytest
from docker.errors import APIError, NotFound
from support.daemon import DOCKER, wait_until
from support.terminal import Terminal

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def box(daemon):
    """A container that does nothing but be there."""
    name = "for-execs"
    daemon.cli("docker", "run", "-d", "--name", name, "--network", "none", "-e", "OF=container", "busybox", "sleep", "100000")
    yield name
    daemon.cli("docker", "rm", "-f", name)


@pytest.fixture
def library(daemon):
    with closing(docker.APIClient(base_url=daemon.host)) as client:
        yield client


def test_output_input_and_exit_code(daemon, client, box):
    result = daemon.cli(client, "exec", box, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert daemon.cli(client, "exec", "-i", box, "cat", stdin=b"typed").stdout == b"typed"
    # Without -i there is nothing to read.
    assert daemon.cli(client, "exec", box, "cat", stdin=b"unheard").stdout == b""


def test_ten_megabytes_there_and_back(daemon, client, box):
    data = os.urandom(10 << 20)
    assert daemon.cli(client, "exec", "-i", box, "cat", stdin=data).stdout == data


def test_settings_of_an_exec(daemon, client, box, tmp_path):
    variables = tmp_path / "variables"
    variables.write_text("FROM=file\n# nothing\nBOTH=file\n")
    flags = ["-u", "box", "-w", "/tmp", "-e", "BOTH=flag", "-e", "OWN=1", "--env-file", str(variables)]
    script = "id -u; id -G; pwd; echo $FROM $BOTH $OWN $OF $HOME; [ -t 1 ] || echo none"
    said = daemon.cli(client, "exec", *flags, box, "sh", "-c", script).stdout.decode().splitlines()
    assert said == ["1000", "1000 2000", "/tmp", "file flag 1 container /home/box", "none"]


def test_privileges(daemon, client, box):
    capabilities = ["grep", "Cap", "/proc/self/status"]
    own = daemon.cli(client, "exec", box, "cat", "/proc/1/status").stdout.decode()
    plain = daemon.cli(client, "exec", box, *capabilities).stdout.decode()
    assert all(line in own for line in plain.splitlines())
    assert "CapInh:\t0000000000000000" in plain
    privileged = daemon.cli(client, "exec", "--privileged", box, *capabilities).stdout.decode()
    effective = next(int(line.split()[1], 16) for line in privileged.splitlines() if line.startswith("CapEff"))
    assert effective & 1 << 21
    assert "CapInh:\t0000000000000000" in privileged


def test_detached(daemon, client, box):
    marker = f"/tmp/detached-{client}"
    assert daemon.cli(client, "exec", "-d", box, "touch", marker).stdout == b""
    wait_until(lambda: daemon.cli(client, "exec", box, "ls", marker, code=None).returncode == 0, "the exec has run")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nope"], 127, 'exec: "nope": executable file not found in $PATH'),
        (["/nope"], 127, "no such file or directory"),
        (["/etc"], 126, "is a directory"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_programs_that_cannot_be_run(daemon, client, box, arguments, code, message):
    result = daemon.cli(client, "exec", box, *arguments, code=code)
    assert result.stdout.decode().startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert message in result.stdout.decode()


def test_settings_that_cannot_be(daemon, client, box):
    assert b"unable to find user nobody-here" in daemon.cli(client, "exec", "-u", "nobody-here", box, "true", code=126).stdout
    assert b"chdir to cwd" in daemon.cli(client, "exec", "-w", "/nowhere", box, "true", code=127).stdout
    assert b"Cwd must be an absolute path" in daemon.cli(client, "exec", "-w", "nowhere", box, "true", code=126).stdout
    assert b"is not a TTY" in daemon.cli(client, "exec", "-it", box, "sh", code=1).stderr


def test_containers_that_take_none(daemon, client):
    name = f"takes-none-{client}"
    daemon.cli(client, "create", "--name", name, "--network", "none", "busybox", "sleep", "1000")
    assert b"is not running" in daemon.cli(client, "exec", name, "true", code=1).stderr
    daemon.cli(client, "start", name)
    daemon.cli(client, "pause", name)
    assert b"is paused, unpause the container before exec" in daemon.cli(client, "exec", name, "true", code=1).stderr
    daemon.cli(client, "unpause", name)
    daemon.cli(client, "exec", name, "true")
    daemon.cli(client, "rm", "-f", name)
    assert b"No such container" in daemon.cli(client, "exec", name, "true", code=1).stderr


def test_a_terminal_with_size_and_resize(daemon, client, box):
    terminal = Terminal([*daemon.command(client), "exec", "-it", box, "sh"], daemon.env(), 30, 100)
    terminal.expect(b"/ # ")
    terminal.send(b"stty size; tty; echo $TERM\n")
    terminal.expect(b"30 100\r\n/dev/pts/")
    terminal.expect(b"xterm")
    terminal.resize(41, 77)
    os.kill(terminal.process.pid, 28)
    terminal.send(b"while [ \"$(stty size)\" != '41 77' ]; do :; done; echo resi''zed\n")
    terminal.expect(b"resized")
    terminal.send(b"exit 9\n")
    assert terminal.end() == 9


def test_keys_reach_a_terminals_program(daemon, client, box):
    script = "trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    terminal = Terminal([*daemon.command(client), "exec", "-it", box, "sh", "-c", script], daemon.env(), 30, 100)
    terminal.expect(b"ready")
    terminal.send(b"\x03")
    terminal.expect(b"int")
    assert terminal.end() == 4


def test_detach_keys(daemon, client, box):
    terminal = Terminal(
        [*daemon.command(client), "exec", "-it", "--detach-keys", "ctrl-a,x", box, "sh", "-c", "echo re''ady; sleep 5000"],
        daemon.env(), 30, 100,
    )  # fmt: skip
    terminal.expect(b"ready")
    terminal.send(b"\x01")
    terminal.send(b"x")
    terminal.expect(b"read escape sequence")
    assert terminal.end() == 1
    running = daemon.inspect(box)["ExecIDs"]
    assert len(running) >= 1
    pid = daemon.get(f"/exec/{running[-1]}/json")["Pid"]
    os.kill(pid, 9)
    wait_until(lambda: running[-1] not in (daemon.inspect(box)["ExecIDs"] or []), "the exec has ended")


def test_inspect_tells_everything(daemon, library, box):
    created = library.exec_create(box, ["sleep", "0.2"], user="box", privileged=True, stdin=True, detach_keys="ctrl-a,b")
    ident = created["Id"]
    about = library.exec_inspect(ident)
    assert about == {
        "ID": ident,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {
            "tty": False, "entrypoint": "sleep", "arguments": ["0.2"], "privileged": True, "user": "box"
        },
        "OpenStdin": True,
        "OpenStderr": True,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": daemon.inspect(box)["Id"],
        "DetachKeys": base64.b64encode(b"\x01b").decode(),
        "Pid": 0,
    }  # fmt: skip
    assert ident in daemon.inspect(box)["ExecIDs"]
    library.exec_start(ident, detach=True)
    about = library.exec_inspect(ident)
    assert (about["Running"], about["ExitCode"]) == (True, None)
    assert about["Pid"] > 0
    about = wait_until(lambda: (now := library.exec_inspect(ident)) and not now["Running"] and now, "it has ended")
    assert about["ExitCode"] == 0
    assert ident not in (daemon.inspect(box)["ExecIDs"] or [])


def test_an_exec_runs_once(library, box):
    ident = library.exec_create(box, ["sleep", "0.3"])["Id"]
    library.exec_start(ident, detach=True)
    with pytest.raises(APIError, match="is already running") as caught:
        library.exec_start(ident)
    assert caught.value.status_code == 409
    wait_until(lambda: not library.exec_inspect(ident)["Running"], "it has ended")
    with pytest.raises(APIError, match="has already run") as caught:
        library.exec_start(ident, detach=True)
    assert caught.value.status_code == 409


def test_refusals(library, box):
    for call in (library.exec_inspect, library.exec_start, lambda ident: library.exec_resize(ident, 1, 1)):
        with pytest.raises(NotFound, match="No such exec instance: nope"):
            call("nope")
    with pytest.raises(APIError, match="No exec command specified") as caught:
        library.exec_create(box, [])
    assert caught.value.status_code == 400
    with pytest.raises(APIError, match="invalid environment variable: =x") as caught:
        library.exec_create(box, ["true"], environment=["=x"])
    assert caught.value.status_code == 400
    with pytest.raises(APIError, match="Invalid detach keys") as caught:
        library.exec_create(box, ["true"], detach_keys="nonsense")
    assert caught.value.status_code == 400
    ident = library.exec_create(box, ["nope"])["Id"]
    with pytest.raises(APIError, match="executable file not found") as caught:
        library.exec_start(ident, detach=True)
    assert caught.value.status_code == 400
    assert library.exec_inspect(ident)["ExitCode"] == 127


def test_docker_pys_ways_to_read(daemon, box):
    client = docker.DockerClient(base_url=daemon.host)
    container = client.containers.get(box)
    script = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    assert container.exec_run(script, demux=True) == (3, (b"out\n", b"err\n"))
    code, output = container.exec_run(script)
    assert (code, sorted(output.split())) == (3, [b"err", b"out"])
    _, stream = container.exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; done"], stream=True)
    assert b"".join(stream) == b"1\n2\n3\n"
    assert container.exec_run(["sh", "-c", "tty; exit 2"], tty=True)[0] == 2
    assert container.exec_run("env", environment={"A": "b"}, workdir="/tmp")[1].splitlines().count(b"A=b") == 1
    _, raw = container.exec_run(["cat"], stdin=True, socket=True, tty=True)
    raw._sock.sendall(b"over a socket\n")
    got = b""
    while got.count(b"over a socket") < 2:
        got += raw._sock.recv(4096)
    raw._sock.shutdown(socket.SHUT_RDWR)
    raw.close()
    client.close()


async def test_aiodocker(daemon, box):
    async with aiodocker.Docker(url=daemon.host) as client:
        container = await client.containers.get(box)
        execution = await container.exec(["sh", "-c", "cat; echo err >&2; exit 6"], stdin=True)
        async with execution.start(detach=False) as stream:
            await stream.write_in(b"hello\n")
            got = [await stream.read_out()]
            assert (got[0].stream, got[0].data) == (1, b"hello\n")
        execution = await container.exec(["sh", "-c", "stty size; sleep 1000"], tty=True)
        async with execution.start(detach=False) as stream:
            await execution.resize(h=33, w=44)
            assert (await stream.read_out()).data.endswith(b"\r\n")
        assert (await execution.inspect())["Running"]
        detached = await container.exec(["true"])
        await detached.start(detach=True)


def test_events_of_an_exec(daemon, box):
    code, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["sh", "-c", "exit 5"]})
    assert code == 201
    ident = body["Id"]
    assert daemon.request("POST", f"/exec/{ident}/start", {"Detach": True})[0] == 200

    def told() -> list[tuple[str, dict[str, str]]]:
        output = daemon.cli(
            "docker", "events", "--since", "1h", "--until", "0s", "--filter", f"container={box}", "--format", "{{json .}}"
        ).stdout.decode()
        events = [json.loads(line) for line in output.splitlines()]
        mine = [event for event in events if event["Actor"]["Attributes"].get("execID") == ident]
        return [(event["Action"], event["Actor"]["Attributes"]) for event in mine]

    events = wait_until(lambda: (seen := told()) and len(seen) == 3 and seen, "three events")
    assert [action for action, _ in events] == ["exec_create: sh -c exit 5", "exec_start: sh -c exit 5", "exec_die"]
    assert events[-1][1]["exitCode"] == "5"
    assert events[0][1]["name"] == box


def test_input_that_comes_with_the_request(daemon, box):
    """Bytes behind the body, in the same packet, are the program's input."""
    code, body = daemon.request("POST", f"/containers/{box}/exec", {"Cmd": ["cat"], "AttachStdin": True, "AttachStdout": True})
    assert code == 201
    text = b'{"Detach":false,"Tty":false}'
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(daemon.socket))
        head = f"POST /exec/{body['Id']}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(text) + text + b"early")
        sock.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    top, _, rest = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream")
    assert rest == b"\1\0\0\0\0\0\0\5early"


def test_a_client_that_is_cut_off_ends_its_input_only(daemon, box):
    script = "echo begun > /tmp/begun; cat > /dev/null; echo over > /tmp/over"

    def written(name: str) -> bool:
        return daemon.cli("boxship", "exec", box, "cat", f"/tmp/{name}", code=None).stdout == f"{name}\n".encode()

    process = daemon.popen("boxship", "exec", "-i", box, "sh", "-c", script, stdin=-1)
    wait_until(lambda: written("begun"), "it runs")
    assert not written("over")
    process.kill()
    process.communicate()
    wait_until(lambda: written("over"), "its input ended")
