"""Terminals: a real pty between the client and us, with Docker's command line and with ours."""

from __future__ import annotations

import os

import pytest
from support.daemon import DOCKER, wait_until
from support.terminal import Terminal as PseudoTerminal

CLIENTS = [pytest.param("docker", marks=pytest.mark.skipif(DOCKER is None, reason="no docker command")), "boxship"]


@pytest.fixture(params=CLIENTS)
def client(request) -> str:
    return request.param


def Terminal(daemon, client: str, *args: str, rows: int = 30, columns: int = 100) -> PseudoTerminal:  # noqa: N802 - as a class
    """A client on a pseudo terminal of its own."""
    return PseudoTerminal([*daemon.command(client), *args], daemon.env(), rows, columns)


def test_a_shell_with_size_and_resize(daemon, client):
    terminal = Terminal(daemon, client, "run", "--rm", "-it", "busybox", "sh")
    terminal.expect(b"/ # ")
    terminal.send(b"stty size; tty\n")
    terminal.expect(b"30 100\r\n/dev/pts/0\r\n")
    terminal.resize(41, 77)
    os.kill(terminal.process.pid, 28)
    terminal.send(b"while [ \"$(stty size)\" != '41 77' ]; do :; done; echo resi''zed\n")
    terminal.expect(b"resized")
    terminal.send(b"exit 9\n")
    assert terminal.end() == 9


def test_interrupt_reaches_the_program(daemon, client):
    terminal = Terminal(
        daemon,
        client,
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'echo int; exit 4' INT; echo ready; while :; do sleep 0.05; done",
    )
    terminal.expect(b"ready")
    terminal.send(b"\x03")
    terminal.expect(b"int")
    assert terminal.end() == 4


def test_detach_and_attach_again(daemon, client):
    name = f"detached-{client}"
    terminal = Terminal(daemon, client, "run", "-it", "--name", name, "busybox", "sh")
    terminal.expect(b"/ # ")
    terminal.send(b"\x10\x11")
    assert terminal.end() == 0
    assert daemon.inspect(name)["State"]["Running"]
    terminal = Terminal(daemon, client, "attach", name)
    terminal.send(b"echo aw''ay\n")
    terminal.expect(b"away")
    terminal.send(b"\x10\x11")
    terminal.expect(b"read escape sequence")
    assert terminal.end() == 1
    terminal = Terminal(daemon, client, "attach", name)
    terminal.send(b"echo ba''ck\n")
    terminal.expect(b"back")
    terminal.send(b"exit 2\n")
    assert terminal.end() == 2
    daemon.cli(client, "rm", name)


def test_own_detach_keys(daemon, client):
    name = f"keys-{client}"
    terminal = Terminal(daemon, client, "run", "-it", "--detach-keys", "ctrl-a,x", "--name", name, "busybox", "sh")
    terminal.expect(b"/ # ")
    terminal.send(b"\x01")
    terminal.send(b"x")
    assert terminal.end() == 0
    daemon.cli(client, "rm", "-f", name)


def test_a_terminal_survives_the_daemons_death(own_daemon, client):
    terminal = Terminal(own_daemon, client, "run", "--name", "live", "-it", "busybox", "sh")
    terminal.expect(b"/ # ")
    # The prompt may be there before the answer to the start is; a client whose start isn't answered gives up, rightly.
    own_daemon.wait_state("live", "running")
    terminal.send(b"echo answer''ed\n")
    terminal.expect(b"answered")
    own_daemon.kill()
    terminal.send(b"echo still he''re\n")
    terminal.expect(b"still here")
    os.kill(own_daemon.supervisor_pid(), 9)
    terminal.send(b"echo and still he''re\n")
    terminal.expect(b"and still here")
    own_daemon.start()
    wait_until(lambda: own_daemon.inspect("live")["State"]["Running"], "the new daemon knows it")
    terminal.send(b"echo once mo''re\n")
    terminal.expect(b"once more")
    assert b"still here" in own_daemon.cli(client, "logs", "live").stdout
    terminal.send(b"exit 6\n")
    terminal.process.wait(20)
    assert own_daemon.wait_state("live", "exited")["State"]["ExitCode"] == 6
    terminal.end()
