"""The server's side of RFC 6455, against frames that an independent implementation makes."""

from __future__ import annotations

import os

import pytest
from boxrun.shim import websocket
from boxrun.shim.websocket import Decoder, ProtocolError
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong


def client() -> Connection:
    return Connection(ConnectionType.CLIENT)


def payload(events: list[websocket.Event]) -> bytes:
    return b"".join(data for kind, data in events if kind == "data")


@given(st.lists(st.tuples(st.binary(max_size=70_000), st.booleans()), max_size=6), st.lists(st.integers(1, 5000), max_size=30))
def test_payload_comes_through_whatever_the_fragments_and_reads(messages: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    peer = client()
    wire = b"".join(peer.send(BytesMessage(data=data, message_finished=final)) for data, final in messages)
    decoder = Decoder()
    got = b""
    for cut in cuts:
        got += payload(decoder.feed(wire[:cut]))
        wire = wire[cut:]
    got += payload(decoder.feed(wire))
    assert got == b"".join(data for data, _ in messages)


def test_pings_between_fragments() -> None:
    peer = client()
    wire = peer.send(BytesMessage(data=b"one", message_finished=False))
    wire += peer.send(Ping(payload=b"are you there"))
    wire += peer.send(BytesMessage(data=b"two"))
    events = Decoder().feed(wire)
    assert events == [("data", b"one"), ("ping", b"are you there"), ("data", b"two")]
    (pong,) = list(parsed(peer, websocket.frame(websocket.PONG, b"are you there")))
    assert pong == Pong(payload=b"are you there")


def parsed(peer: Connection, wire: bytes) -> list[object]:
    peer.receive_data(wire)
    return list(peer.events())


def test_close_ends_it() -> None:
    peer = client()
    wire = peer.send(CloseConnection(code=1000, reason="bye"))
    events = Decoder().feed(wire + b"anything")
    assert events == [("close", b"\x03\xe8")]
    (close,) = parsed(peer, websocket.frame(websocket.CLOSE, events[0][1]))
    assert isinstance(close, CloseConnection)
    assert close.code == 1000


def test_an_empty_message_is_told() -> None:
    assert Decoder().feed(client().send(BytesMessage(data=b""))) == [("empty", b"")]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_sent(size: int) -> None:
    data = os.urandom(size)
    events = parsed(client(), websocket.frame(websocket.BINARY, data))
    assert b"".join(event.data for event in events) == data  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "wire",
    [
        b"\x82\x01x",  # not masked
        b"\xc2\x81\0\0\0\0x",  # a reserved bit
        b"\x83\x81\0\0\0\0x",  # an unknown opcode
        b"\x80\x81\0\0\0\0x",  # a continuation of nothing
        b"\x02\x80\0\0\0\0\x82\x80\0\0\0\0",  # a message within a message
        b"\x09\x80\0\0\0\0",  # a ping in fragments
        b"\x89\xfe\x00\x7e\0\0\0\0",  # a ping too long
        b"\x88\x81\0\0\0\0x",  # half a close code
    ],
)
def test_broken_protocol(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(wire)


def test_half_a_head_waits() -> None:
    wire = client().send(BytesMessage(data=b"x" * 300))
    decoder = Decoder()
    for byte in wire[:7]:
        assert decoder.feed(bytes((byte,))) == []
    assert payload(decoder.feed(wire[7:])) == b"x" * 300
