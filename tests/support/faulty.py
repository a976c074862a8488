"""An HTTP proxy before a registry that does to chosen requests what networks, disks and attackers do."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_PIECE = 64 << 10


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to requests.

    Attributes:
        method: of the requests meant.
        path: an expression that their path matches somewhere.
        times: how many requests it happens to; -1 for all.
        status: answer this instead, with ``headers`` and ``body``.
        cut_after: close the connection after so many bytes of the answer's body.
        hold_after: send so many bytes of the body, then nothing until ``let_go``.
        announce: the Content-Length told, and the connection closed at the end.
        change: makes another body of the answer's.
        headers: of the answer, changed; None removes one.
        cut_upload_after: close the connection after so many bytes of the request's body; what came is passed on.
        without_ranges: the request loses its Range header.
        held: set once a request is being held.
    """

    method: str = "GET"
    path: str = "."
    times: int = 1
    status: int = 0
    body: bytes = b""
    cut_after: int = -1
    hold_after: int = -1
    announce: int = -1
    change: Callable[[bytes], bytes] | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    cut_upload_after: int = -1
    without_ranges: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def meets(self, method: str, path: str) -> bool:
        return self.times != 0 and self.method == method and re.search(self.path, path) is not None


class FaultyProxy:
    """The proxy. Requests without a fault pass as they are.

    Attributes:
        host: its address.
        faults: what is to happen, the first that fits a request first.
        seen: every request.
    """

    def __init__(self, upstream: str, certificate: tuple[Path, Path] | None = None) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                # Else every answer of two pieces would wait for the client's delayed acknowledgement.
                self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                super().setup()
                proxy._sockets.add(self.connection)

            def finish(self) -> None:
                proxy._sockets.discard(self.connection)
                try:
                    super().finish()
                except OSError:
                    pass

            def _handle(self) -> None:
                try:
                    proxy.handle(self)
                except (OSError, EOFError, ValueError):
                    self.close_connection = True

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

            def log_message(self, *arguments: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: object, address: object) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https" if certificate else "http"
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for fault in self.faults:
            fault.let_go.set()
        self._server.shutdown()
        self._thread.join()
        for sock in list(self._sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._server.server_close()

    def requests(self, method: str, path: str) -> list[Seen]:
        """The requests of a method whose path matches an expression somewhere."""
        return [seen for seen in self.seen if seen.method == method and re.search(path, seen.path)]

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Pass a request on, or don't."""
        headers = dict(request.headers.items())
        with self._lock:
            self.seen.append(Seen(request.command, request.path, dict(headers)))
            fault = next((fault for fault in self.faults if fault.meets(request.command, request.path)), Fault(times=0))
            fault.times -= fault.times > 0
        if fault.without_ranges:
            headers.pop("Range", None)
        length = int(headers.get("Content-Length", 0))
        if fault.status:
            self._read(request, length)
            self._refuse(request, fault)
            return
        upstream = HTTPConnection(self.upstream, timeout=60)
        try:
            body = self._body(request, length, headers, fault)
            upstream.request(
                request.command, request.path, body, headers, encode_chunked=headers.get("Transfer-Encoding") == "chunked"
            )
            if fault.cut_upload_after >= 0:
                # The registry keeps what came; then the client learns of nothing.
                _shut(upstream)
                raise EOFError
            self._answer(request, upstream.getresponse(), fault)
        finally:
            upstream.close()

    def _read(self, request: BaseHTTPRequestHandler, length: int) -> None:
        while length > 0 and (data := request.rfile.read(min(_PIECE, length))):
            length -= len(data)

    def _body(
        self, request: BaseHTTPRequestHandler, length: int, headers: dict[str, str], fault: Fault
    ) -> Iterator[bytes] | None:
        if headers.get("Transfer-Encoding") == "chunked":
            return _chunks(request)
        if not length:
            return None
        if fault.cut_upload_after >= 0:
            length = min(length, fault.cut_upload_after)
            headers["Content-Length"] = str(length)
            if "Content-Range" in headers:
                start = int(headers["Content-Range"].partition("-")[0])
                headers["Content-Range"] = f"{start}-{start + length - 1}"

        def pieces() -> Iterator[bytes]:
            left = length
            while left > 0 and (data := request.rfile.read(min(_PIECE, left))):
                left -= len(data)
                yield data

        return pieces()

    def _refuse(self, request: BaseHTTPRequestHandler, fault: Fault) -> None:
        request.send_response(fault.status)
        for name, value in fault.headers.items():
            if value is not None:
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(fault.body)))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(fault.body)

    def _answer(self, request: BaseHTTPRequestHandler, answer: HTTPResponse, fault: Fault) -> None:
        data = fault.change(answer.read()) if fault.change else None
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in ("connection", "transfer-encoding") or name in fault.headers:
                continue
            if name.lower() == "content-length" and (data is not None or fault.announce >= 0):
                continue
            if name.lower() == "location":
                value = value.replace(f"http://{self.upstream}", f"{self.scheme}://{self.host}")
            request.send_header(name, value)
        for name, value in fault.headers.items():
            if value is not None:
                request.send_header(name, value)
        if fault.announce >= 0:
            request.send_header("Content-Length", str(fault.announce))
            request.close_connection = True
        elif data is not None:
            request.send_header("Content-Length", str(len(data)))
        elif answer.getheader("Content-Length") is None:
            request.send_header("Connection", "close")
            request.close_connection = True
        request.end_headers()
        if request.command == "HEAD":
            return
        sent = 0
        for piece in [data] if data is not None else iter(lambda: answer.read(_PIECE), b""):
            limit = max(fault.cut_after, fault.hold_after)
            if limit >= 0 and sent + len(piece) > limit:
                request.wfile.write(piece[: limit - sent])
                request.wfile.flush()
                if fault.hold_after >= 0:
                    fault.held.set()
                    fault.let_go.wait(60)
                request.close_connection = True
                request.connection.shutdown(socket.SHUT_RDWR)
                return
            request.wfile.write(piece)
            sent += len(piece)


def _chunks(request: BaseHTTPRequestHandler) -> Iterator[bytes]:
    while size := int(request.rfile.readline().partition(b";")[0], 16):
        yield request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()


def _shut(connection: HTTPConnection) -> None:
    """Wait until the registry has taken what was sent, by its answer."""
    connection.getresponse().read()


@contextmanager
def faulty(upstream: str, *faults: Fault) -> Iterator[FaultyProxy]:
    """A proxy before ``upstream`` with some faults."""
    with FaultyProxy(upstream) as proxy:
        proxy.faults += faults
        yield proxy
