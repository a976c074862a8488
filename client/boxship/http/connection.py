"""One HTTP/1.1 connection: requests and streamed answers, on top of h11."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import h11

from boxship.errors import ProtocolError
from boxship.http.stream import Stream

Headers = list[tuple[str, str]]
Event = h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage


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
        self._h11 = h11.Connection(h11.CLIENT)
        self._events: deque[Event] = deque()
        self.reusable = False
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
        # h11 takes bytes for every header; text is ASCII by construction here.
        message = self._encode(h11.Request(method=method, target=target, headers=fields))
        if isinstance(body, bytes) and body:
            message += self._encode(h11.Data(data=body))
        if body is None or isinstance(body, bytes):
            self._send(message + self._encode(h11.EndOfMessage()))
        else:
            self._send(message)
            self._upload(body)
        if meanwhile is not None:
            meanwhile()
        return self._head()

    def body(self) -> Iterator[bytes]:
        """The body of the current answer."""
        while True:
            event = self._next()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.reusable = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
                return

    def switch(self) -> tuple[Stream, bytes]:
        """After a 101 answer: the stream, now the caller's, and the bytes that came with the head."""
        rest, _ = self._h11.trailing_data
        self.closed = True
        return self.stream, bytes(rest)

    def release(self) -> None:
        """Make ready for another request, or close where that can't be."""
        if self.closed or self._h11.our_state is h11.IDLE:
            return
        if not self.reusable:
            self.close()
            return
        self.reusable = False
        self._h11.start_next_cycle()
        if self._on_idle is not None:
            self._on_idle(self)

    def close(self) -> None:
        """Close the stream."""
        if not self.closed:
            self.closed = True
            self.stream.close()

    def _encode(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self._h11.send(event) or b""
        except h11.LocalProtocolError as error:
            raise ProtocolError(f"the request can't be sent: {error}") from error

    def _send(self, data: bytes) -> None:
        try:
            self.stream.send(data)
        except ProtocolError:
            # A server that refuses a body answers and closes; its answer says more than the broken pipe.
            self._receive_rest()
            if not any(isinstance(event, h11.Response) for event in self._events):
                raise

    def _upload(self, body: Iterable[bytes]) -> None:
        for chunk in body:
            if not chunk:
                continue
            self._collect()
            if self._refused or self._h11.their_state is h11.CLOSED:
                return
            self._send(self._encode(h11.Data(data=chunk)))
        if not self._refused:
            self._send(self._encode(h11.EndOfMessage()))

    @property
    def _refused(self) -> bool:
        return any(isinstance(event, h11.Response) and event.status_code >= 400 for event in self._events)

    def _collect(self) -> None:
        """Take what has arrived already, so that a server that writes while it reads never blocks."""
        while (data := self.stream.receive_now()) is not None:
            self._h11.receive_data(data)
            self._parse()
            if not data:
                return

    def _receive_rest(self) -> None:
        try:
            while data := self.stream.receive():
                self._h11.receive_data(data)
            self._h11.receive_data(b"")
        except ProtocolError:
            pass
        self._parse()

    def _parse(self) -> None:
        try:
            while True:
                event = self._h11.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    return
                if isinstance(event, (h11.Response, h11.InformationalResponse, h11.Data, h11.EndOfMessage)):
                    self._events.append(event)
        except h11.RemoteProtocolError as error:
            self.close()
            raise ProtocolError(f"the daemon's answer is not HTTP, or was cut off: {error}") from error

    def _next(self) -> Event:
        while not self._events:
            data = self.stream.receive()
            if not data and self._h11.their_state is h11.SEND_RESPONSE and not self._h11.trailing_data[0]:
                self.close()
                raise ProtocolError("the daemon closed the connection without an answer")
            self._h11.receive_data(data)
            self._parse()
            if not data and not self._events:
                self.close()
                raise ProtocolError("the daemon closed the connection without an answer")
        return self._events.popleft()

    def _head(self) -> Response:
        while True:
            event = self._next()
            if isinstance(event, h11.Response) or (isinstance(event, h11.InformationalResponse) and event.status_code == 101):
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                return Response(self, event.status_code, headers)
