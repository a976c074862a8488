"""The command line on a real terminal: raw mode and its end, suspension, signals, half-closed input, broken pipes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="runs real containers")


class Terminal:
    """A program on a pseudo-terminal of its own, which is its controlling one."""

    def __init__(self, argv: list[str], env: dict[str, str], size: tuple[int, int] = (24, 80)) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            argv,
            env=env,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        os.write(self.master, data)

    def expect(self, pattern: bytes, timeout: float = 20) -> bytes:
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        self.seen = self.seen[match.end() :]
        return match.group()

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    @property
    def restored(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def wait(self, timeout: float = 20) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def name(daemon: Daemon) -> Iterator[str]:
    """A container's name, removed afterwards."""
    name = f"client-{os.urandom(4).hex()}"
    yield name
    daemon.cli("boxship", "rm", "-f", name, code=None)


@pytest.fixture
def terminal(daemon: Daemon, name: str) -> Iterator[Terminal]:
    """A shell in a container on a terminal of 24 by 80."""
    command = [*daemon.command("boxship"), "run", "-it", "--name", name, "busybox", "sh"]
    terminal = Terminal(command, daemon.env())
    try:
        terminal.expect(rb"# ")
        yield terminal
    finally:
        terminal.close()


def running(daemon: Daemon, name: str) -> bool:
    return daemon.cli("boxship", "inspect", "-f", "{{.State.Running}}", name).stdout == b"true\n"


def test_terminal_is_raw_inside_and_restored_after_exit(terminal):
    assert terminal.raw
    terminal.send(b"exit 7\r")
    assert terminal.wait() == 7
    assert terminal.restored


def test_size_follows_the_terminal(terminal):
    terminal.send(b"stty size\r")
    terminal.expect(rb"24 80\r\n")
    terminal.resize(40, 132)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.send(b"while ! stty size | grep -q '40 132'; do :; done; echo re''sized\r")
    terminal.expect(rb"resized")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_terminal_is_restored_when_a_signal_ends_the_client(daemon, name, terminal, signum):
    terminal.process.send_signal(signum)
    assert terminal.wait() == -signum
    assert terminal.restored
    assert running(daemon, name)


def test_suspended_client_leaves_a_usable_terminal(daemon, name):
    # A job of a shell, as only such can be suspended.
    client = " ".join([*daemon.command("boxship"), "run", "-it", "--name", name, "busybox", "sh"])
    terminal = Terminal(["sh", "-mc", f"{client}; echo st''opped; read word; fg"], daemon.env())
    try:
        terminal.expect(rb"# ")
        pid = int(Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text())
        os.kill(pid, signal.SIGTSTP)
        terminal.expect(rb"stopped")
        assert terminal.restored
        terminal.send(b"go\r")
        wait_until(lambda: terminal.raw, "the terminal is raw again")
        terminal.send(b"echo still''here\r")
        terminal.expect(rb"stillhere")
        terminal.send(b"exit\r")
        assert terminal.wait() == 0
        assert terminal.restored
    finally:
        terminal.close()


def test_detach_keys_leave_the_container_running(daemon, name, terminal):
    terminal.send(b"\x10\x11")
    assert terminal.wait() == 0
    assert terminal.restored
    assert running(daemon, name)


def test_half_a_detach_sequence_is_typed_through(terminal):
    terminal.send(b"cat -v\r")
    terminal.expect(rb"cat -v\r\n")
    terminal.send(b"\x10x\r")
    terminal.expect(rb"\^Px")


def test_attach_again_after_detaching(daemon, name, terminal):
    terminal.send(b"word=kept\r")
    terminal.expect(rb"# ")
    terminal.send(b"\x10\x11")
    assert terminal.wait() == 0
    again = Terminal([*daemon.command("boxship"), "attach", name], daemon.env(), (30, 100))
    try:
        wait_until(lambda: again.raw, "the terminal is raw")
        again.send(b"echo $word; stty size\r")
        again.expect(rb"kept\r\n30 100")
        again.send(b"exit 3\r")
        assert again.wait() == 3
        assert again.restored
    finally:
        again.close()


def test_signals_reach_a_program_without_terminal(daemon, name):
    script = "trap 'echo got usr1' USR1; trap 'echo got term; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    command = [*daemon.command("boxship"), "run", "--name", name, "busybox", "sh", "-c", script]
    with subprocess.Popen(command, env=daemon.env(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == b"got usr1\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"got term\n"
        assert process.wait(20) == 9


def test_signals_stay_here_without_proxy(daemon, name):
    script = "trap 'echo got term' TERM; echo ready; while :; do sleep 0.05; done"
    command = [*daemon.command("boxship"), "run", "--sig-proxy=false", "--name", name, "busybox", "sh", "-c", script]
    with subprocess.Popen(command, env=daemon.env(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
    assert running(daemon, name)


def test_ten_megabytes_through_cat_are_unchanged(daemon):
    data = os.urandom(10 << 20)
    assert daemon.cli("boxship", "run", "--rm", "-i", "busybox", "cat", stdin=data).stdout == data


def test_end_of_input_ends_the_program_that_reads_it(daemon):
    script = "wc -c; echo after; echo err >&2"
    result = daemon.cli("boxship", "run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", script, stdin=b"12345")
    assert result.stdout == b"5\nafter\n"
    assert result.stderr == b"err\n"


def test_program_that_reads_nothing_ends_the_client(daemon):
    assert daemon.cli("boxship", "run", "--rm", "-i", "busybox", "echo", "done", stdin=os.urandom(4 << 20)).stdout == b"done\n"


def test_terminal_without_a_terminal_is_refused(daemon):
    result = daemon.cli("boxship", "run", "--rm", "-it", "busybox", "true", stdin=b"", code=1)
    assert result.stderr == b"the input device is not a TTY\n"


def test_reader_that_goes_away_is_no_error(daemon, name):
    daemon.cli("boxship", "run", "--name", name, "busybox", "seq", "200000")
    read, write = os.pipe()
    with subprocess.Popen(
        [*daemon.command("boxship"), "logs", name], env=daemon.env(), stdout=write, stderr=subprocess.PIPE
    ) as process:
        os.close(write)
        with open(read, "rb", buffering=0) as reader:
            assert reader.read(2) == b"1\n"
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


def test_followed_log_of_two_streams(daemon, name):
    daemon.cli("boxship", "run", "-d", "--name", name, "busybox", "sh", "-c", "echo one; echo two >&2; sleep 0.3; echo three")
    result = daemon.cli("boxship", "logs", "-f", name)
    assert (result.stdout, result.stderr) == (b"one\nthree\n", b"two\n")
