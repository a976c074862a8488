"""The transport against a scripted peer: HTTP, websockets, multiplexed streams, addresses."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from boxship.api import API
from boxship.errors import (
    BadRequest,
    Conflict,
    DaemonUnreachable,
    InvalidAddress,
    NotFound,
    NotImplementedByDaemon,
    ProtocolError,
    ServerError,
    Unavailable,
)
from boxship.http import address
from boxship.http.stream import Stream
from boxship.http.target import query_string, quote
from boxship.streams import Demultiplexer, attach, logs
from boxship.websocket import Handshake, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode


class Peer:
    """A unix socket whose connections are answered by a function; what it received is kept."""

    def __init__(self, directory: Path, answer: Callable[[Peer, socket.socket], None]) -> None:
        self.path = str(directory / "peer.sock")
        self.received: list[bytes] = []
        self.connections = 0
        self._answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with sock:
                sock.settimeout(10)
                try:
                    self._answer(self, sock)
                except (TimeoutError, ConnectionError):
                    continue

    def head(self, sock: socket.socket) -> bytes:
        """Read a request's head and body of known length."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                raise ConnectionResetError
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += sock.recv(65536)
        self.received.append(head + b"\r\n\r\n" + body)
        return head

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def peer(tmp_path):
    peers: list[Peer] = []

    def start(answer: Callable[[Peer, socket.socket], None]) -> tuple[Peer, API]:
        peers.append(Peer(tmp_path, answer))
        return peers[-1], API(f"unix://{peers[-1].path}")

    yield start
    for started in peers:
        started.close()


def answering(*answers: bytes) -> Callable[[Peer, socket.socket], None]:
    """One answer after another on each connection."""

    def answer(peer: Peer, sock: socket.socket) -> None:
        for item in answers:
            peer.head(sock)
            sock.sendall(item)

    return answer


def plain(status: str, body: bytes, *headers: str) -> bytes:
    fields = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def test_connection_is_kept_for_the_next_call(peer):
    server, api = peer(answering(plain("200 OK", b'{"a":1}'), plain("200 OK", b"")))
    with api:
        assert api.call("GET", "/x", {"all": True, "names": ["a b", "c"], "no": None}) == {"a": 1}
        assert api.call("POST", "/y", body={"k": "ü"}) is None
    assert server.connections == 1
    assert server.received[0].startswith(b"GET /v1.51/x?all=1&names=a%20b&names=c HTTP/1.1\r\n")
    assert json.loads(server.received[1].partition(b"\r\n\r\n")[2]) == {"k": "ü"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400 Bad", BadRequest),
        ("404 Not Found", NotFound),
        ("409 Conflict", Conflict),
        ("500 Oops", ServerError),
        ("501 Not Implemented", NotImplementedByDaemon),
        ("503 Unavailable", Unavailable),
    ],
)
def test_refusals_become_errors(peer, status, error):
    _, api = peer(answering(plain(status, b'{"message":"No such thing"}')))
    with api, pytest.raises(error, match=r"^No such thing$"):
        api.call("GET", "/x")


def test_refusal_without_json(peer):
    _, api = peer(answering(plain("500 Oops", b"broken <b>")))
    with api, pytest.raises(ServerError, match=r"^broken <b>$"):
        api.call("GET", "/x")


def test_older_daemon_is_spoken_to_in_its_version(peer):
    refusal = b'{"message":"client version 1.51 is too new. Maximum supported API version is 1.41"}'
    server, api = peer(answering(plain("400 Bad", refusal), plain("200 OK", b"[]")))
    with api:
        assert api.call("GET", "/containers/json") == []
        assert api.version == "1.41"
    assert server.received[1].startswith(b"GET /v1.41/containers/json ")


def test_chunks_travel_up_and_down(peer):
    def answer(server: Peer, sock: socket.socket) -> None:
        server.head(sock)
        data = server.received[0].partition(b"\r\n\r\n")[2]
        while not data.endswith(b"0\r\n\r\n"):
            data += sock.recv(65536)
        server.received.append(data)
        sock.sendall(
            b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"a":1}\n\r\n4\r\n{"b"\r\n4\r\n:2}\n\r\n0\r\n\r\n'
        )

    server, api = peer(answer)
    with api, api.open("POST", "/images/load", body=iter([b"abc", b"", b"de"])) as response:
        assert list(response.lines()) == [b'{"a":1}', b'{"b":2}']
    assert (b"Transfer-Encoding: chunked" in server.received[0]) or (
        b"transfer-encoding: chunked" in server.received[0].lower()
    )


def test_refusal_in_the_middle_of_an_upload_is_heard(peer):
    def answer(server: Peer, sock: socket.socket) -> None:
        server.head(sock)
        sock.sendall(plain("400 Bad", b'{"message":"not an archive"}', "Connection: close"))

    _, api = peer(answer)
    with api, pytest.raises(BadRequest, match="not an archive"):
        api.open("POST", "/images/load", body=(b"x" * 65536 for _ in range(1000)))


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
def test_broken_answers_are_named(peer, answer):
    def reply(server: Peer, sock: socket.socket) -> None:
        server.head(sock)
        sock.sendall(answer)

    _, api = peer(reply)
    with api, pytest.raises(ProtocolError):
        api.call("GET", "/x")


def test_nobody_there():
    with (
        API("unix:///nonexistent/sock") as api,
        pytest.raises(DaemonUnreachable, match=r"unix:///nonexistent/sock\. Is boxshipd running"),
    ):
        api.call("GET", "/x")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("unix:///run/x.sock", ("unix", "/run/x.sock", "", 0, "")),
        ("/run/x.sock", ("unix", "/run/x.sock", "", 0, "")),
        ("tcp://h", ("tcp", "", "h", 0, "")),
        ("tcp://[::1]:2376", ("tcp", "", "::1", 2376, "")),
        ("ssh://u@h:22/run/x.sock", ("ssh", "/run/x.sock", "h", 22, "u")),
        ("ssh://h", ("ssh", "", "h", 0, "")),
    ],
)
def test_addresses(text, parts):
    parsed = address.parse(text)
    assert (parsed.scheme, parsed.path, parsed.host, parsed.port, parsed.user) == parts


@pytest.mark.parametrize(
    "text",
    ["", "x", "x://y", "tcp://", "tcp://h:x", "tcp://h:70000", "tcp://::1", "ssh://-oProxyCommand=x", "ssh://-l@h", "unix://"],
)
def test_what_is_no_address(text):
    with pytest.raises(InvalidAddress):
        address.parse(text)


def test_which_address_is_used():
    both = {"BOXSHIP_HOST": "unix:///b", "DOCKER_HOST": "unix:///d"}
    assert address.choose("unix:///given", both) == "unix:///given"
    assert address.choose(None, both) == "unix:///b"
    assert address.choose(None, {"DOCKER_HOST": "unix:///d"}) == "unix:///d"
    assert address.choose(None, {}) == "unix:///var/run/boxship.sock"


def test_query_encoding():
    assert query_string({"a": "x&y", "b": False, "c": None, "d": [1, "ü"]}) == "a=x%26y&b=0&d=1&d=%C3%BC"
    assert quote("a/b:c@d", "/:@") == "a/b:c@d"


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8), st.integers(1, 50))
def test_multiplexed_streams_come_apart_however_they_are_cut(frames, step):
    wire = b"".join(bytes([kind, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for kind, data in frames)
    demultiplexer = Demultiplexer()
    out = {1: b"", 2: b""}
    for start in range(0, len(wire), step):
        for kind, piece in demultiplexer.feed(wire[start : start + step]):
            out[kind] += piece
    assert out == {kind: b"".join(data for k, data in frames if k == kind) for kind in (1, 2)}


def test_damaged_headers_are_noticed():
    with pytest.raises(ProtocolError, match="bad header"):
        list(Demultiplexer().feed(b"hello world"))


@pytest.fixture
def websocket():
    near, far = socket.socketpair()
    far.settimeout(10)
    with far, WebSocket(Stream(near)) as socket_:
        yield socket_, far, FrameProtocol(client=False, extensions=[])


def frames_of(server: FrameProtocol, far: socket.socket, count: int) -> list[tuple[Opcode, object]]:
    found: list[tuple[Opcode, object]] = []
    while len(found) < count:
        server.receive_bytes(far.recv(65536))
        found += [(frame.opcode, frame.payload) for frame in server.received_frames()]
    return found


def test_websocket_messages_and_end_of_input(websocket):
    client, far, server = websocket
    client.write(b"hello")
    client.finish_writing()
    assert frames_of(server, far, 2) == [(Opcode.BINARY, b"hello"), (Opcode.BINARY, b"")]
    far.sendall(server.send_data(b"one") + server.send_data("two") + server.close(1000))
    assert [client.read(), client.read(), client.read()] == [b"one", b"two", b""]


def test_websocket_answers_pings(websocket):
    client, far, server = websocket
    far.sendall(server.ping(b"p") + server.send_data(b"x"))
    assert client.read() == b"x"
    assert frames_of(server, far, 1) == [(Opcode.PONG, b"p")]


def test_websocket_writing_never_waits(websocket):
    client, far, server = websocket
    data = os.urandom(4 << 20)
    client.write(data)
    assert client.unsent
    got = bytearray()
    while len(got) < len(data):
        client.flush()
        server.receive_bytes(far.recv(1 << 20))
        for frame in server.received_frames():
            got += frame.payload
    assert got == data
    assert not client.unsent


@pytest.mark.parametrize(
    ("wire", "message"),
    [
        (b"", "hung up"),
        (b"\x82\x05ab", "hung up"),
        (b"\xff\xff\xff\xff", "broke the websocket protocol"),
        (b"\x88\x06\x03\xf3oops", "oops"),
    ],
)
def test_websocket_that_ends_badly(websocket, wire, message):
    client, far, _ = websocket
    far.sendall(wire)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolError, match=message):
        list(iter(client.read, b""))


def test_handshake_checks_the_key():
    handshake = Handshake(["a"])
    with pytest.raises(ProtocolError, match="wrong key"):
        handshake.check({"sec-websocket-accept": "x"})


UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


def test_other_makers_daemons_are_attached_to_by_hijacking(peer):
    def answer(server: Peer, sock: socket.socket) -> None:
        server.head(sock)
        sock.sendall(plain("200 OK", b"{}", "Server: Docker/20.10 (linux)"))
        server.head(sock)
        sock.sendall(UPGRADED + b"\x01\0\0\0\0\0\0\x02hi")
        server.received.append(sock.recv(100))
        assert sock.recv(100) == b""

    server, api = peer(answer)
    with api:
        api.call("GET", "/containers/x/json")
        duplex, multiplexed = attach(api, "x", {"stream": True}, tty=False)
        with duplex:
            assert multiplexed
            duplex.write(b"in")
            duplex.finish_writing()
            assert duplex.read() == b"\x01\0\0\0\0\0\0\x02hi"
            assert duplex.read() == b""
    assert server.received[1].startswith(b"POST /v1.51/containers/x/attach?stream=1 ")
    assert server.received[2] == b"in"


def test_other_makers_logs_are_plain_http(peer):
    body = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03err"
    _, api = peer(answering(plain("200 OK", b"{}", "Server: Docker/20.10 (linux)"), plain("200 OK", body)))
    with api:
        api.call("GET", "/containers/x/json")
        assert list(logs(api, "x", {"stdout": True}, tty=False)) == [(1, b"hi"), (2, b"err")]
