"""One HTTP/1.1 connection: requests and streamed answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from boxship.errors import ProtocolError
from boxship.http.answer import Answer
from boxship.http.request import END_OF_CHUNKS, Headers, head, piece_of
from boxship.http.stream import Stream

__all__ = ["Connection", "Headers", "Response"]


class Response:
    """An answer whose body is read as it comes. Closing it early closes the connection.

    Attributes:
        status: the HTTP status.
        headers: names in lower case to values, the last of a repeated one.
    """

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece as it arrives."""
        return self._connection.body()

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def lines(self) -> Iterator[bytes]:
        """The body, line by line (JSON streams)."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
        if rest.strip():
            yield rest

    def switch(self) -> tuple[Stream, bytes]:
        """After a 101 answer: the byte stream, now the caller's, and the bytes that came with the head."""
        return self._connection.switch()

    def close(self) -> None:
        """Give the connection back where the body was read to its end; drop it otherwise."""
        self._connection.release()


class Connection:
    """A connection that carries one request at a time.

    Args:
        stream: the byte stream, owned from here on.
        host: the Host header.
        agent: the User-Agent header.
        on_idle: called when an answer was read to its end and the connection can carry another request.
    """

    def __init__(self, stream: Stream, host: str, agent: str, on_idle: Callable[[Connection], None] | None = None) -> None:
        self.stream = stream
        self._on_idle = on_idle
        self._host = host
        self._agent = agent
        self._answer: Answer | None = None
        self._sent = True
        self.closed = False

    def request(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        body: bytes | Iterable[bytes] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> Response:
        """Send a request and wait for the head of its answer.

        Args:
            method: GET, POST, …
            target: the path with its query.
            headers: further headers.
            body: bytes are sent with their length, an iterable in chunks while answers are already being read.
            meanwhile: called once the request is sent and before the answer is waited for.

        Raises:
            ProtocolError: the connection broke or the peer doesn't speak HTTP.
        """
        fields: Headers = [("Host", self._host), ("User-Agent", self._agent), *(headers or [])]
        if isinstance(body, bytes):
            fields.append(("Content-Length", str(len(body))))
        elif body is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        elif method in ("POST", "PUT"):
            fields.append(("Content-Length", "0"))
        message = head(method, target, fields)
        answer = self._answer = Answer(method)
        self._sent = False
        if body is None or isinstance(body, bytes):
            self._send(answer, message + (body or b""))
            self._sent = True
        else:
            self._send(answer, message)
            self._upload(answer, body)
        if meanwhile is not None:
            meanwhile()
        while not answer.status:
            self._receive(answer)
        return Response(self, answer.status, answer.headers)

    def body(self) -> Iterator[bytes]:
        """The body of the current answer."""
        answer = self._answer
        assert answer is not None
        while True:
            while answer.body:
                yield answer.body.popleft()
            if answer.complete:
                return
            self._receive(answer)

    def switch(self) -> tuple[Stream, bytes]:
        """After a 101 answer: the stream, now the caller's, and the bytes that came with the head."""
        assert self._answer is not None
        self.closed = True
        return self.stream, self._answer.rest

    def release(self) -> None:
        """Make ready for another request, or close where that can't be."""
        answer, self._answer = self._answer, None
        if self.closed or answer is None:
            return
        if not (self._sent and answer.complete and answer.keeps) or answer.rest:
            self.close()
        elif self._on_idle is not None:
            self._on_idle(self)

    def close(self) -> None:
        """Close the stream."""
        if not self.closed:
            self.closed = True
            self.stream.close()

    def _send(self, answer: Answer, data: bytes) -> None:
        try:
            self.stream.send(data)
        except ProtocolError:
            # A server that refuses a body answers and closes; its answer says more than the broken pipe.
            self._receive_rest(answer)
            if not answer.status:
                raise

    def _upload(self, answer: Answer, body: Iterable[bytes]) -> None:
        for piece in body:
            if not piece:
                continue
            self._collect(answer)
            if answer.status >= 400 or self.closed:
                return
            self._send(answer, piece_of(piece))
        if answer.status < 400:
            self._send(answer, END_OF_CHUNKS)
            self._sent = True

    def _collect(self, answer: Answer) -> None:
        """Take what has arrived already, so that a server that writes while it reads never blocks."""
        while (data := self.stream.receive_now()) is not None:
            self._feed(answer, data)
            if not data:
                return

    def _receive_rest(self, answer: Answer) -> None:
        try:
            while data := self.stream.receive():
                answer.feed(data)
            answer.feed(b"")
        except ProtocolError:
            # What is known of the answer is all that there is.
            return

    def _receive(self, answer: Answer) -> None:
        data = self.stream.receive()
        if not data and not answer.status and not self.closed:
            self.close()
            raise ProtocolError("the daemon closed the connection without an answer")
        self._feed(answer, data)

    def _feed(self, answer: Answer, data: bytes) -> None:
        try:
            answer.feed(data)
        except ProtocolError:
            self.close()
            raise
