"""Messages between supervisor and shim: in the datagram, in a memfd beside it, with descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from boxrun.shim.protocol import Attach, Client, Done, decode_report, decode_request
from boxrun.shim.wire import INLINE_LIMIT, close_all, encode, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        yield left, right


@pytest.mark.parametrize("size", [0, 10, INLINE_LIMIT, 300_000, 5_000_000])
def test_any_size_arrives(pair: Pair, size: int) -> None:
    message = Attach(sequence=7, client=Client(framing="raw", received=b"x" * size))
    reader, writer = os.pipe()
    send(pair[0], encode(message), (writer,))
    os.close(writer)
    received = receive(pair[1])
    assert received is not None
    data, fds = received
    assert decode_request(data) == message
    os.write(fds[0], b"through the copy")
    close_all(fds)
    assert os.read(reader, 100) == b"through the copy"
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_end_of_connection(pair: Pair) -> None:
    send(pair[0], encode(Done(sequence=1)))
    pair[0].close()
    received = receive(pair[1])
    assert received is not None
    assert decode_report(received[0]) == Done(sequence=1)
    assert receive(pair[1]) is None


def test_a_full_queue_does_not_block(pair: Pair) -> None:
    def fill() -> None:
        while True:
            send(pair[0], b"x" * 1000)

    with pytest.raises(BlockingIOError):
        fill()


@pytest.mark.parametrize("datagram", [b"\2hello", b"\1without a descriptor"])
def test_garbage_is_refused(pair: Pair, datagram: bytes) -> None:
    pair[0].send(datagram)
    with pytest.raises(ValueError, match="datagram of unknown kind"):
        receive(pair[1])
