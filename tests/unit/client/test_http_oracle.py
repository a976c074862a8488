"""Our HTTP and websocket readers beside h11 and wsproto: the same out of every sequence of bytes, however it is cut."""

from __future__ import annotations

import contextlib
import socket

import h11
import pytest
from boxship.errors import ProtocolError
from boxship.http import request
from boxship.http.answer import LONGEST_HEAD, Answer
from boxship.http.connection import Connection
from boxship.http.frames import BINARY, CLOSE, PING, PONG, FrameReader, encode
from boxship.http.stream import Stream
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wsproto.frame_protocol import CloseReason, FrameProtocol, Opcode, ParseFailed

NAMES = st.sampled_from(["Server", "X-A", "Content-Type", "Api-Version", "Ostype"])
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12)
CUTS = st.integers(1, 40)


def pieces(data: bytes, step: int) -> list[bytes]:
    return [data[start : start + step] for start in range(0, len(data), step)]


def ours(method: str, wire: list[bytes], closed: bool) -> tuple[object, ...]:
    answer = Answer(method)
    try:
        for piece in wire:
            answer.feed(piece)
        if closed:
            answer.feed(b"")
    except ProtocolError:
        return ("refused",)
    return answer.status, answer.headers, b"".join(answer.body), answer.complete, answer.rest


def theirs(method: str, wire: list[bytes], closed: bool) -> tuple[object, ...]:
    peer = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
    peer.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    peer.send(h11.EndOfMessage())
    status, headers, body, complete = 0, {}, b"", False
    try:
        for piece in [*wire, *([b""] if closed else [])]:
            peer.receive_data(piece)
            while not complete:
                event = peer.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    break
                if isinstance(event, h11.Response):
                    status = event.status_code
                    headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    complete = True
    except h11.RemoteProtocolError:
        return ("refused",)
    return status, headers, body, complete, peer.trailing_data[0] if complete else b""


@st.composite
def answers(draw) -> tuple[str, bytes]:
    """An answer in one of the forms that HTTP has, perhaps behind an interim one, perhaps cut short."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST"]))
    status = draw(st.sampled_from(["200 OK", "201 Created", "204 No Content", "304 Not Modified", "404", "500 Oops"]))
    body = draw(st.binary(max_size=60))
    fields = [f"{name}: {value}" for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=3))]
    form = draw(st.sampled_from(["length", "chunked", "close"]))
    if form == "length":
        fields.append(f"Content-Length: {len(body)}")
    elif form == "chunked":
        fields.append("Transfer-Encoding: chunked")
        step = draw(st.integers(1, 30))
        body = b"".join(b"%x;x=y\r\n%b\r\n" % (len(piece), piece) for piece in pieces(body, step)) + b"0\r\nX-T: 1\r\n\r\n"
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    wire = interim + "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body
    return method, wire[: draw(st.sampled_from([len(wire), draw(st.integers(0, len(wire)))]))]


@settings(deadline=None)
@given(answers(), CUTS, st.booleans())
def test_answers_are_read_as_h11_reads_them(answer, step, closed):
    method, wire = answer
    cut = pieces(wire, step)
    mine, reference = ours(method, cut, closed), theirs(method, cut, closed)
    assert mine == reference


@settings(deadline=None)
@given(st.binary(max_size=200), CUTS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 9)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 9)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", 9)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 9)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 9)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 5000, 100)
@example(b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", 9)
@example(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", 9)
@example(b"HTTP/1.1 20x OK\r\n\r\n", 9)
@example(b"HTTP/1.1 099 OK\r\n\r\n", 9)
@example(b"HTTP/2 200 OK\r\n\r\n", 9)
@example(b"SSH-2.0-OpenSSH_9.2\r\n", 9)
def test_what_h11_refuses_is_refused(wire, step):
    cut = pieces(wire, step)
    if theirs("GET", cut, True) == ("refused",):
        assert ours("GET", cut, True) == ("refused",)


def test_a_head_without_end_is_given_up():
    answer = Answer("GET")
    answer.feed(b"HTTP/1.1 200 OK\r\n")
    for _ in range(LONGEST_HEAD // 1000):
        answer.feed(b"X: " + b"a" * 995 + b"\r\n")
    with pytest.raises(ProtocolError, match="too long"):
        answer.feed(b"X: " + b"a" * 2000 + b"\r\n")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_requests_are_what_h11_reads(method):
    wire = request.head(method, "/v1.51/x?a=1&b=%20", [("Host", "boxship"), ("X-A", "b c")])
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(wire)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target, list(event.headers)) == (
        method.encode(), b"/v1.51/x?a=1&b=%20", [(b"host", b"boxship"), (b"x-a", b"b c")],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        ("/x y", []),
        ("x", []),
        ("/x\r\nEvil: 1", []),
        ("/x", [("A", "b\r\nC: d")]),
        ("/x", [("A\n", "b")]),
        ("/ü", []),
        ("/x", [("A", "\0")]),
    ],
)
def test_no_header_gets_out_of_its_line(target, fields):
    with pytest.raises(ProtocolError, match="can't be sent"):
        request.head("GET", target, fields)


def test_uploaded_pieces_are_what_h11_reads():
    near, far = socket.socketpair()
    with far:
        connection = Connection(Stream(near), "x", "y")
        with pytest.raises(ProtocolError, match="without an answer"):
            connection.request(
                "POST", "/up", body=iter([b"a" * 70000, b"", b"bc"]), meanwhile=lambda: far.shutdown(socket.SHUT_WR)
            )
        peer = h11.Connection(h11.SERVER)
        body = b""
        far.settimeout(10)
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                peer.receive_data(far.recv(65536))
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
        assert body == b"a" * 70000 + b"bc"


# Websockets


@settings(deadline=None)
@given(
    st.sampled_from([BINARY, PING, PONG]), st.binary(max_size=125) | st.sampled_from([b"x" * 126, b"y" * 65535, b"z" * 65536])
)
def test_frames_are_what_wsproto_reads(opcode, payload):
    if opcode != BINARY:
        payload = payload[:125]
    peer = FrameProtocol(client=False, extensions=[])
    peer.receive_bytes(encode(opcode, payload))
    frames = list(peer.received_frames())
    assert b"".join(bytes(frame.payload) for frame in frames) == payload
    assert frames[-1].opcode == Opcode(opcode)
    assert frames[-1].message_finished


SENT = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.binary(max_size=70) | st.binary(min_size=120, max_size=130), st.booleans()),
        st.tuples(st.just("ping"), st.binary(max_size=20), st.just(True)),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(SENT, CUTS)
def test_frames_are_read_as_wsproto_reads_them(sent, step):
    server = FrameProtocol(client=False, extensions=[])
    wire = b""
    for kind, payload, final in sent:
        wire += server.send_data(payload, final) if kind == "data" else server.ping(payload)
    mine, reference = FrameReader(), FrameProtocol(client=True, extensions=[])
    got: dict[bool, bytes] = {True: b"", False: b""}
    expected: dict[bool, bytes] = {True: b"", False: b""}
    for piece in pieces(wire + server.close(1000), step):
        for opcode, payload in mine.feed(piece):
            got[opcode < CLOSE] += payload
        reference.receive_bytes(piece)
        for frame in reference.received_frames():
            if frame.opcode is not Opcode.CLOSE:
                expected[not frame.opcode.iscontrol()] += bytes(frame.payload)
            else:
                expected[False] += (1000).to_bytes(2, "big")
    assert got == expected


@settings(deadline=None)
@given(st.binary(max_size=40), CUTS)
@example(b"\x09\x00", 1)  # a control frame in parts
@example(b"\x89\x7e\x00\x80", 1)  # one that is too long
@example(b"\x80\x00", 1)  # a continuation of nothing
@example(b"\x02\x00\x82\x00", 1)  # a message within a message
@example(b"\x82\x80abcd", 1)  # masked
@example(b"\xc2\x00", 1)  # a reserved bit
@example(b"\x88\x01a", 1)
@example(b"\x82\x7f\x80\0\0\0\0\0\0\0", 1)
def test_what_wsproto_refuses_is_refused(wire, step):
    reference = FrameProtocol(client=True, extensions=[])
    refused: ParseFailed | None = None
    with contextlib.suppress(StopIteration):
        try:
            for piece in pieces(wire, step):
                reference.receive_bytes(piece)
                for frame in reference.received_frames():
                    if frame.opcode is Opcode.CLOSE:
                        raise StopIteration
        except ParseFailed as error:
            refused = error
    # What is text isn't looked at: what a container writes need not be UTF-8. Of numbers in a hurry to be short, neither.
    if (
        refused is None
        or refused.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA
        or "minimum" in str(refused)
        or "CLOSE" in str(refused).upper()
    ):
        return
    mine = FrameReader()
    with pytest.raises(ProtocolError):
        [list(mine.feed(piece)) for piece in pieces(wire, step)]
