"""Logging in at a terminal, with Docker's command line and with ours: the same questions, and nothing of the password shown."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from support.cli import Client
from support.daemon import DOCKER
from support.registry import PASSWORD, REGISTRY, USER, Registry
from support.terminal import Terminal

pytestmark = [
    pytest.mark.skipif(DOCKER is None, reason="no docker command"),
    pytest.mark.skipif(REGISTRY is None, reason="no docker-registry"),
]


@pytest.fixture(scope="module")
def protected() -> Iterator[Registry]:
    with Registry(htpasswd=True) as registry:
        yield registry


@pytest.fixture
def clients(daemon, tmp_path) -> tuple[Client, Client]:
    return Client(daemon, "docker", tmp_path / "one"), Client(daemon, "boxship", tmp_path / "two")


def session(client: Client, *args: str, answers: tuple[tuple[bytes, bytes], ...]) -> tuple[int, bytes]:
    """Log in at a terminal: for each question the answer; the exit status and all that was shown."""
    env = client.env | {"DOCKER_CLI_DISABLE_OAUTH_LOGIN": "1"}
    terminal = Terminal([*client.daemon.command(client.name), "login", *args], env)
    shown = b""
    for question, answer in answers:
        terminal.expect(question)
        shown += question
        terminal.send(answer)
    terminal.process.wait(30)
    # What is there now is all there will be.
    os.set_blocking(terminal.master, False)
    try:
        while True:
            terminal.seen += os.read(terminal.master, 65536)
    except BlockingIOError:
        shown += terminal.seen
    code = terminal.end()
    return code, shown.replace(b"boxship", b"docker").replace(str(client.config).encode(), b"CONFIG")


NAME, SECRET = (b"Username: ", f"{USER}\r".encode()), (b"Password: ", f"{PASSWORD}\r".encode())


@pytest.mark.parametrize(
    ("args", "answers"),
    [
        (["HOST"], (NAME, SECRET)),
        (["-u", USER, "HOST"], (SECRET,)),
        (["-p", PASSWORD, "HOST"], (NAME,)),
        (["HOST"], (NAME, (b"Password: ", b"wrong\r"))),
        (["HOST"], ((b"Username: ", b"\r"),)),
        (["HOST"], (NAME, (b"Password: ", b"\r"))),
    ],
)
def test_the_same_questions(clients, protected, args, answers):
    args = [protected.host if arg == "HOST" else arg for arg in args]
    docker, boxship = (session(client, *args, answers=answers) for client in clients)
    assert boxship == docker
    assert PASSWORD.encode() not in boxship[1]


def test_docker_hub_is_introduced(clients):
    docker, boxship = (session(client, answers=((b"Username: ", b"\r"),)) for client in clients)
    assert boxship == docker


def test_an_account_that_is_known(clients, protected):
    for client in clients:
        client("login", "-u", USER, "-p", PASSWORD, protected.host)
    docker, boxship = (session(client, protected.host, answers=()) for client in clients)
    assert boxship == docker
    assert b"Authenticating with existing credentials... [Username: anna]" in boxship[1]


def test_an_account_that_is_no_longer_right_is_asked_for(clients, protected):
    for client in clients:
        client.config.mkdir()
        client.config_file.write_text('{"auths": {"%s": {"auth": "YW5uYTp3cm9uZw=="}}}' % protected.host)  # noqa: UP031
    known = ((f"Username ({USER}): ".encode(), b"\r"), SECRET)
    docker, boxship = (session(client, protected.host, answers=known) for client in clients)
    assert boxship == docker
    assert boxship[0] == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_terminal_is_restored_by_whatever_ends_it(clients, protected, ending):
    client = clients[1]
    terminal = Terminal([*client.daemon.command("boxship"), "login", "-u", USER, protected.host], client.env)
    terminal.expect(b"Password: ")
    terminal.process.send_signal(ending)
    # The mode is compared there.
    assert terminal.end() in (-ending, 130)
