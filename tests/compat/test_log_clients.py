"""Logs and attached streams as other makers' clients use them: every parameter, on running, ended and rotated logs."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator

import aiodocker
import docker
import pytest
from conftest import needs_root
from docker.models.containers import Container
from docker.types import LogConfig
from support.daemon import Daemon, wait_until

pytestmark = needs_root

SCRIPT = "for i in 1 2 3 4 5 6; do echo out $i; echo err $i >&2; usleep 20000; done"


@pytest.fixture
def client(daemon: Daemon) -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(base_url=daemon.host)
    yield client
    client.close()


@pytest.fixture
async def asynchronous(daemon: Daemon) -> AsyncIterator[aiodocker.Docker]:
    async with aiodocker.Docker(url=daemon.host) as client:
        yield client


@pytest.fixture(params=["json-file", "local", "rotated", "compressed"])
def written(request: pytest.FixtureRequest, client: docker.DockerClient) -> Iterator[Container]:
    """A container that has written twelve lines, and some attributes with each."""
    options = {"labels": "team", "env": "STAGE"}
    if request.param in ("rotated", "compressed"):
        options |= {"max-size": "400", "max-file": "20", "compress": str(request.param == "compressed").lower()}
    container = client.containers.run(
        "busybox",
        ["sh", "-c", SCRIPT],
        detach=True,
        labels={"team": "a b"},
        environment={"STAGE": "x=y"},
        log_config=LogConfig(type="local" if request.param == "local" else "json-file", config=options),
    )
    assert container.wait()["StatusCode"] == 0
    yield container
    container.remove(force=True)


def test_every_combination_of_parameters(written: Container) -> None:
    """Against what the whole log with its times says they must give."""
    both = written.logs(timestamps=True).splitlines(keepends=True)
    assert len(both) == 12
    entries = [(line.partition(b" ")[0].decode(), line.partition(b" ")[2]) for line in both]
    assert sorted(text for _, text in entries) == sorted(
        b"%s %d\n" % (name, number) for name in (b"out", b"err") for number in range(1, 7)
    )
    middle = entries[5][0]
    for stdout, stderr in ((True, True), (True, False), (False, True)):
        for tail in ("all", 0, 1, 3, 7, 50):
            for since, until in ((None, None), (middle, None), (None, middle), (middle, middle)):
                for stamped in (False, True):
                    chosen = entries[-tail:] if isinstance(tail, int) and tail else [] if tail == 0 else entries
                    wanted = b"".join(
                        (f"{moment} ".encode() if stamped else b"") + text
                        for moment, text in chosen
                        if (stdout if text.startswith(b"out") else stderr)
                        and (since is None or moment >= since)
                        and (until is None or moment <= until)
                    )
                    query = {"stdout": stdout, "stderr": stderr, "timestamps": stamped, "tail": tail}
                    query |= {name: _epoch(value) for name, value in (("since", since), ("until", until)) if value}
                    assert _raw(written, query) == wanted, query


def _epoch(moment: str) -> str:
    """RFC 3339 as seconds with nine decimals, which docker-py's own parameters have no room for."""
    whole, _, decimals = moment.removesuffix("Z").partition(".")
    return f"{int(time.mktime(time.strptime(whole + ' UTC', '%Y-%m-%dT%H:%M:%S %Z'))) - time.timezone}.{decimals}"


def _raw(container: Container, query: dict[str, object]) -> bytes:
    api = container.client.api
    response = api._get(api._url("/containers/{0}/logs", container.id), params=query, stream=True)
    return b"".join(api._multiplexed_response_stream_helper(response))


def test_details(written: Container) -> None:
    shown = _raw(written, {"stdout": 1, "details": 1, "tail": "1", "stderr": 1})
    assert shown.startswith(b"STAGE=x%3Dy,team=a+b ")
    stamped = _raw(written, {"stdout": 1, "details": 1, "tail": "1", "stderr": 1, "timestamps": 1})
    assert stamped.partition(b" ")[2].startswith(b"STAGE=x%3Dy,team=a+b ")


@pytest.mark.parametrize("program", ["docker", "boxship"])
def test_the_command_lines(daemon: Daemon, written: Container, program: str) -> None:
    def lines(*flags: str) -> list[bytes]:
        done = daemon.cli(program, "logs", *flags, written.id)
        return done.stdout.splitlines() + done.stderr.splitlines()

    assert lines() == [b"out %d" % n for n in range(1, 7)] + [b"err %d" % n for n in range(1, 7)]
    assert len(lines("--tail", "5")) == 5
    assert lines("-n", "0") == []
    assert len(lines("--since", "1h")) == 12
    assert lines("--until", "1h") == []
    assert all(line.startswith(b"STAGE=x%3Dy,team=a+b ") for line in lines("--details"))
    assert all(b"Z STAGE=x%3Dy" in line for line in lines("-t", "--details"))
    assert len(lines("-f")) == 12


def test_docker_py_streams_logs_while_they_are_written(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo one; read line; echo $line"], detach=True, stdin_open=True)
    stream = container.logs(stream=True, follow=True)
    assert next(stream) == b"one\n"
    sock = container.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"two\n")
    assert next(stream) == b"two\n"
    assert list(stream) == []
    sock.close()
    container.remove(force=True)


def test_docker_py_attaches(client: docker.DockerClient) -> None:
    command = ["sh", "-c", "echo early; read line; echo late; echo bad >&2"]
    container = client.containers.run("busybox", command, detach=True, stdin_open=True)
    wait_until(lambda: container.logs() == b"early\n", "it has begun")
    everything = container.attach(stream=True, logs=True, demux=True)
    from_now_on = container.attach(stream=True, stdout=True, stderr=False)
    sock = container.attach_socket(params={"stdin": 1, "stream": 1})
    sock._sock.sendall(b"\n")
    assert sorted(everything, key=str) == [(None, b"bad\n"), (b"early\n", None), (b"late\n", None)]
    assert list(from_now_on) == [b"late\n"]
    sock.close()
    assert container.attach(logs=True, stream=False) == b"early\nlate\nbad\n"
    container.remove(force=True)


def test_docker_py_gets_what_comes_right_behind_a_head(client: docker.DockerClient) -> None:
    """Its reader of heads reads ahead, and what it then has is lost: nothing may come before it has read the head."""
    container = client.containers.run("busybox", ["sh", "-c", "echo early; exec sleep 100000"], detach=True)
    wait_until(lambda: container.logs() == b"early\n", "it has begun")
    replayed: list[object] = []
    executed: list[object] = []

    def read() -> None:
        for _ in range(10):
            replayed.append(container.attach(logs=True, stream=False))
            executed.append(container.exec_run(["echo", "here"]).output)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replayed == [b"early\n"] * 60
    assert executed == [b"here\n"] * 60
    container.remove(force=True)


async def test_aiodocker_reads_logs_of_a_driver_that_sends(asynchronous: aiodocker.Docker) -> None:
    config = {
        "Image": "busybox",
        "Cmd": ["sh", "-c", "echo a; echo b >&2; echo c"],
        "HostConfig": {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "udp://127.0.0.1:9"}}},
    }
    container = await asynchronous.containers.run(config)
    await container.wait()
    assert sorted(await container.log(stdout=True, stderr=True)) == ["a\n", "b\n", "c\n"]
    assert await container.log(stderr=True) == ["b\n"]
    assert (await container.show())["HostConfig"]["LogConfig"]["Type"] == "syslog"
    await container.delete(force=True)


async def test_aiodocker_follows_and_attaches(asynchronous: aiodocker.Docker) -> None:
    config = {"Image": "busybox", "Cmd": ["sh", "-c", "echo one; read line; echo $line"], "OpenStdin": True, "StdinOnce": True}
    container = await asynchronous.containers.run(config)
    follower = container.log(stdout=True, follow=True)
    assert await anext(follower) == "one\n"
    async with container.attach(stdin=True, stdout=True, stderr=True, logs=True) as stream:
        message = await stream.read_out()
        assert message is not None
        assert message.data == b"one\n"
        await stream.write_in(b"two\n")
        message = await stream.read_out()
        assert message is not None
        assert message.data == b"two\n"
    assert await anext(follower) == "two\n"
    await container.delete(force=True)


async def test_aiodocker_is_told_of_an_unknown_option(asynchronous: aiodocker.Docker) -> None:
    config = {"Image": "busybox", "HostConfig": {"LogConfig": {"Type": "gelf", "Config": {}}}}
    with pytest.raises(aiodocker.DockerError, match="gelf-address is a required parameter"):
        await asynchronous.containers.create(config)


def test_a_driver_named_in_info(client: docker.DockerClient) -> None:
    info = client.info()
    assert info["Plugins"]["Log"] == ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"]
    assert info["LoggingDriver"] == "json-file"
