"""The upload half of a registry as the specification has it: what came before a cut stays, and may be asked for.

docker-registry 2.8 gives such an upload up instead, so it alone can't show that a client goes on.
Source: OCI distribution specification 1.1, "Pushing a blob in chunks".
"""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class UploadServer:
    """Takes blobs.

    Attributes:
        host: its address.
        cuts: after how many bytes of their bodies the next chunks are cut.
        ranges: the Content-Range of each chunk.
        begun: how many uploads were begun.
        blobs: what has been taken, by digest.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.ranges: list[str] = []
        self.begun = 0
        self.blobs: dict[str, bytes] = {}
        uploads: dict[str, bytearray] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server.begun += 1
                uploads[str(server.begun)] = bytearray()
                self._answer(202, str(server.begun))

            def do_PATCH(self) -> None:
                name = self._name()
                there = uploads[name]
                start = int(self.headers["Content-Range"].partition("-")[0])
                server.ranges.append(self.headers["Content-Range"])
                if start != len(there):
                    self.close_connection = True
                    self._answer(416, name)
                    return
                left = int(self.headers["Content-Length"])
                if server.cuts:
                    there += self.rfile.read(min(left, server.cuts.pop(0)))
                    self.close_connection = True
                    return
                there += self.rfile.read(left)
                self._answer(202, name)

            def do_GET(self) -> None:
                self._answer(204, self._name())

            def do_PUT(self) -> None:
                (digest,) = parse_qs(urlsplit(self.path).query)["digest"]
                data = bytes(uploads[self._name()])
                right = digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
                if right:
                    server.blobs[digest] = data
                self._answer(201 if right else 400, self._name())

            def _name(self) -> str:
                return urlsplit(self.path).path.rpartition("/")[2]

            def _answer(self, status: int, name: str) -> None:
                self.send_response(status)
                self.send_header("Location", f"/v2/up/blobs/uploads/{name}")
                if uploads[name]:
                    self.send_header("Range", f"0-{len(uploads[name]) - 1}")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # type: ignore[method-assign]
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> UploadServer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
