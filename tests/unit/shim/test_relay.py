"""The relay: output to log and clients, input to the container, and who waits for whom."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest
from boxrun.container.spec import Log
from boxrun.shim.clients import BUFFER_LIMIT, STALL_BYTES, STALL_SECONDS, Client
from boxrun.shim.logs import open_log
from boxrun.shim.poller import Poller
from boxrun.shim.protocol import Client as ClientSpec
from boxrun.shim.relay import BULK_SIZE, Relay


class Container:
    """A relay whose container's ends are in the test's hands."""

    def __init__(self, log_path: Path, *, terminal: bool = False, stdin_once: bool = False) -> None:
        self.poller = Poller()
        self.log_path = log_path
        self.detached = 0
        self.relay = Relay(
            self.poller,
            open_log(Log(driver="json-file", path=str(log_path))),
            terminal=terminal,
            stdin_once=stdin_once,
            detached=self._detached,
        )
        out, self.stdout = os.pipe()  # closed with the test's process: the tests close them at will
        self.stdin, into = os.pipe()
        os.set_blocking(self.stdin, False)
        self._ends = (into, out)
        self._connected = False
        self._sockets: list[socket.socket] = []

    def _detached(self) -> None:
        self.detached += 1

    def connect(self) -> None:
        into, out = self._ends
        self._connected = True
        self.relay.connect(into, {out: "stdout"})

    def attach(self, framing: str = "raw", **options: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.relay.attach(Client(ClientSpec(framing=framing, **options), theirs.detach(), self.relay._terminal))  # type: ignore[arg-type]
        ours.settimeout(5)
        self._sockets.append(ours)
        return ours

    def turn(self, until: Callable[[], bool] = lambda: False) -> None:
        """Let the relay handle what there is, until a condition or until nothing happens any more."""
        deadline = monotonic() + 10
        while not until() and monotonic() < deadline:
            if not self.poller.wait(0):
                return

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        self.relay.drain()
        self.relay.finish()
        self.relay.abandon_output()
        self.turn(lambda: not self.relay.busy)
        self.relay.close_log()
        self.poller.close()
        assert not self.relay.busy


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    with ExitStack() as stack:

        def make(**options: bool) -> Container:
            container = Container(tmp_path / "log", **options)
            stack.callback(container.close)
            return container

        yield make


def written(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b"nothing"


def test_output_reaches_the_log_and_every_client_in_its_framing(make: Callable[..., Container]) -> None:
    container = make()
    clients = [container.attach(framing) for framing in ("raw", "multiplexed", "websocket", "websocket-multiplexed")]
    unattached = container.attach(stdout=False)
    container.connect()
    os.write(container.stdout, b"hello\n")
    container.turn()
    head = b"\1\0\0\0\0\0\0\6"
    expected = [b"hello\n", head + b"hello\n", b"\x82\x06hello\n", b"\x82\x0e" + head + b"hello\n"]
    assert [client.recv(100) for client in clients] == expected
    unattached.setblocking(False)
    with pytest.raises(BlockingIOError):
        unattached.recv(1)
    assert b'"log":"hello\\n"' in container.log_path.read_bytes()


def test_end_of_output_says_goodbye(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    raw, browser = container.attach(), container.attach("websocket")
    os.close(container.stdout)
    container.turn()
    assert not container.relay.open
    container.relay.finish()
    assert raw.recv(10) == b""
    assert browser.recv(10) == b"\x88\x02\x03\xe8"
    assert browser.recv(10) == b""
    raw.close()
    browser.close()
    container.turn(lambda: not container.relay.busy)
    assert not container.relay.busy


def test_input_sent_ahead_arrives_first(make: Callable[..., Container]) -> None:
    container = make()
    client = container.attach(stdin=True, received=b"first ")
    client.send(b"second")
    container.turn()
    container.connect()
    container.turn()
    assert written(container.stdin) == b"first second"


def test_stdin_once_ends_with_the_first_clients_input(make: Callable[..., Container]) -> None:
    container = make(stdin_once=True)
    container.connect()
    client = container.attach(stdin=True)
    client.send(b"all of it")
    client.shutdown(socket.SHUT_WR)
    container.turn()
    assert written(container.stdin) == b"all of it"
    assert written(container.stdin) == b""
    os.write(container.stdout, b"still attached")
    container.turn()
    assert client.recv(100) == b"still attached"


def test_stdin_stays_open_for_the_next_client(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    client = container.attach(stdin=True)
    client.shutdown(socket.SHUT_WR)
    container.turn()
    assert client.recv(1) == b""
    assert written(container.stdin) == b"nothing"
    container.attach(stdin=True).send(b"next")
    container.turn()
    assert written(container.stdin) == b"next"


def test_a_websocket_client_ends_input_with_an_empty_message(make: Callable[..., Container]) -> None:
    container = make(stdin_once=True)
    container.connect()
    client = container.attach("websocket-multiplexed", stdin=True)
    client.send(b"\x82\x83\0\0\0\0abc\x82\x80\0\0\0\0")
    container.turn()
    assert written(container.stdin) == b"abc"
    assert written(container.stdin) == b""


def test_detach_keys_across_reads(make: Callable[..., Container]) -> None:
    container = make(terminal=True)
    container.connect()
    client = container.attach(stdin=True, detach_keys="ctrl-p,ctrl-q")
    client.send(b"ls\x10")
    container.turn()
    client.send(b"\x11")
    container.turn()
    assert container.detached == 1
    assert client.recv(10) == b""
    assert written(container.stdin) == b"ls"


def test_a_full_client_holds_the_container_back_and_loses_nothing(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    os.set_blocking(container.stdout, False)
    client = container.attach()
    block, sent = bytes(range(1, 200)) * 300, 0

    def write() -> int:
        try:
            return os.write(container.stdout, block)
        except BlockingIOError:
            return 0

    while (count := write()) or not container.relay._held:
        sent += count
        container.turn(lambda: container.relay._held)
    assert BUFFER_LIMIT <= sent <= 2 * BUFFER_LIMIT + 2 * BULK_SIZE
    received = 0
    while received < sent:
        container.turn()
        received += len(client.recv(1 << 20))
    assert not container.relay._held
    os.write(container.stdout, b"on it goes")
    container.turn()
    assert client.recv(100) == b"on it goes"


def stall(container: Container) -> tuple[socket.socket, int]:
    """Attach a client that takes nothing and write until the container is held back; the client, and how much was written."""
    os.set_blocking(container.stdout, False)
    client = container.attach()
    line, sent = b"x" * 9999 + b"\n", 0
    while not container.relay._held:
        sent += os.write(container.stdout, line)
        container.turn(lambda: container.relay._held)
    return client, sent


def test_a_client_that_takes_nothing_is_cut_off_in_the_end_and_the_log_is_whole(
    make: Callable[..., Container], capfd: pytest.CaptureFixture[str]
) -> None:
    container = make()
    container.connect()
    client, sent = stall(container)
    due = container.relay.deadline()
    assert due is not None
    assert STALL_SECONDS - 5 < due - monotonic() <= STALL_SECONDS
    container.relay.expire(due - 1)
    assert container.relay.busy
    container.relay.expire(due)
    assert not container.relay.busy
    assert "cut off an attached client" in capfd.readouterr().err
    # It sees that its stream broke off, and the container goes on.
    while client.recv(1 << 20):
        pass
    os.write(container.stdout, b"on it goes\n")
    os.close(container.stdout)
    container.turn()
    assert container.log_path.read_bytes().count(b"x") == sent - sent // 10000
    assert b"on it goes" in container.log_path.read_bytes()


def test_a_slow_client_that_takes_something_is_waited_for(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    client, _ = stall(container)
    for _ in range(3):
        taken = 0
        while taken < 2 * STALL_BYTES:
            taken += len(client.recv(STALL_BYTES))
            container.turn()
        if (due := container.relay.deadline()) is not None:
            container.relay.expire(due)
        assert container.relay.busy


def test_a_client_whose_container_has_ended_may_take_its_time(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    client, sent = stall(container)
    os.close(container.stdout)
    container.relay.drain()
    container.relay.finish()
    container.relay.expire(monotonic() + 3600)
    received = 0
    while data := client.recv(1 << 20):
        received += len(data)
        container.turn()
    assert received == sent


def test_a_gated_client_gets_what_comes_after_the_place_that_was_told(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    os.write(container.stdout, b"before\nbeg")
    container.turn()
    reader, writer = os.pipe()
    client, theirs = socket.socketpair()
    spec = ClientSpec(framing="raw")
    position = container.relay.attach_gated(Client(spec, theirs.detach(), False), reader)
    assert position.offset == container.log_path.stat().st_size
    assert position.inode == container.log_path.stat().st_ino
    assert position.begun == {"stdout": b"beg"}
    os.write(container.stdout, b"un\nafter\n")
    container.turn()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)
    os.write(writer, b"g")
    container.turn()
    assert client.recv(100) == b"un\nafter\n"
    os.close(writer)
    client.close()


def test_a_gate_that_closes_lets_the_client_go(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    reader, writer = os.pipe()
    client, theirs = socket.socketpair()
    container.relay.attach_gated(Client(ClientSpec(framing="raw"), theirs.detach(), False), reader)
    os.close(writer)
    container.turn()
    assert client.recv(100) == b""
    assert not container.relay.busy
    client.close()


def test_a_container_that_does_not_read_holds_its_client_back(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    client = container.attach(stdin=True)
    client.setblocking(False)
    sent = 0
    with suppress(BlockingIOError):
        while sent < 4 << 20:
            sent += client.send(b"x" * 65536)
            container.turn()
    assert sent < 4 << 20
    got = 0
    while got < sent:
        got += len(written(container.stdin))
        container.turn()
    assert got == sent


def test_a_client_that_is_gone_costs_nothing(make: Callable[..., Container]) -> None:
    container = make(stdin_once=True)
    container.connect()
    gone, stays = container.attach(stdin=True), container.attach()
    gone.close()
    container.turn()
    os.write(container.stdout, b"after\n")
    container.turn()
    assert stays.recv(100) == b"after\n"
    assert written(container.stdin) == b""


def test_a_container_that_closed_its_input(make: Callable[..., Container]) -> None:
    container = make()
    container.connect()
    client = container.attach(stdin=True)
    os.close(container.stdin)
    client.send(b"nobody hears")
    container.turn()
    os.write(container.stdout, b"fine\n")
    container.turn()
    assert client.recv(100) == b"fine\n"
