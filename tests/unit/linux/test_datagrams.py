"""Datagrams that are received together and answered together."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from boxrun.linux.datagrams import Datagrams


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A socket that datagrams come to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def clients(server: socket.socket) -> Iterator[list[socket.socket]]:
    """Three sockets that send to it."""
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for sock in socks:
        sock.settimeout(8)
        sock.connect(server.getsockname())
    yield socks
    for sock in socks:
        sock.close()


def test_each_sender_gets_its_own_answer(server: socket.socket, clients: list[socket.socket]) -> None:
    datagrams = Datagrams(4, 64)
    for turn in range(3):  # the same room again, with answers that are longer and shorter than what came
        sent = [bytes([turn, number]) * (number + 1) for number in range(3)]
        for sock, data in zip(clients, sent, strict=True):
            sock.send(data)
        assert datagrams.receive(server.fileno()) == sent
        assert [datagrams.sender(number) for number in range(3)] == [sock.getsockname() for sock in clients]
        answers = [bytes([number]) * (64 >> turn) for number in range(3)]
        datagrams.answer(server.fileno(), answers)
        assert [sock.recv(100) for sock in clients] == answers
    assert datagrams.receive(server.fileno()) == []


def test_who_gets_no_answer_gets_nobody_elses(server: socket.socket, clients: list[socket.socket]) -> None:
    datagrams = Datagrams(4, 64)
    for sock in clients:
        sock.send(b"?")
    assert len(datagrams.receive(server.fileno())) == 3
    datagrams.answer(server.fileno(), [b"first", None, b"third"])
    assert (clients[0].recv(100), clients[2].recv(100)) == (b"first", b"third")
    clients[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        clients[1].recv(100)


def test_no_more_than_there_is_room_for(server: socket.socket, clients: list[socket.socket]) -> None:
    datagrams = Datagrams(2, 4)
    for data in (b"", b"longer", b"last"):
        clients[0].send(data)
    assert datagrams.receive(server.fileno()) == [b"", b"long"]
    assert datagrams.receive(server.fileno()) == [b"last"]


def test_an_answer_that_cannot_be_sent_keeps_no_other_back(server: socket.socket, clients: list[socket.socket]) -> None:
    datagrams = Datagrams(4, 64)
    port = server.getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        raw.sendto(struct.pack("!HHHH", 0, port, 9, 0) + b"?", ("127.0.0.1", 0))  # from port 0, which nothing is sent to
    clients[0].send(b"?")
    assert datagrams.receive(server.fileno()) == [b"?", b"?"]
    assert datagrams.sender(0) == ("127.0.0.1", 0)
    datagrams.answer(server.fileno(), [b"lost", b"kept"])
    assert clients[0].recv(100) == b"kept"


def test_a_socket_that_is_none_is_an_error() -> None:
    with pytest.raises(OSError, match="receive datagrams") as raised:
        Datagrams(1, 64).receive(-1)
    assert raised.value.errno == errno.EBADF
