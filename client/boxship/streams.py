"""A container's standard streams: attached or read from its log, over a websocket or a hijacked connection."""

from __future__ import annotations

from collections.abc import Iterator

from boxship.api import API, Query
from boxship.errors import ProtocolError
from boxship.http.duplex import Duplex, Hijacked
from boxship.http.target import quote

MULTIPLEXED = "boxship.multiplexed"
"""The websocket subprotocol whose messages carry Docker's 8-byte headers, so that stdout and stderr stay apart."""

STDOUT = 1
STDERR = 2
# dockerd writes its own failures into the stream as a fourth kind.
SYSTEM_ERROR = 3
# A Boxship tells a reader that wants to know where in the log it is.
POSITION = 4
_HEADER = 8


class Demultiplexer:
    """Takes Docker's multiplexed stream apart: each chunk has a header of kind, three zeros and a big-endian length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._kind = 0
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces in ``data`` and what was left of earlier ones, as (kind, bytes).

        A chunk that hasn't come whole is passed on in parts.

        Raises:
            ProtocolError: a header is damaged.
        """
        self._buffer += data
        position = 0
        buffer = self._buffer
        while position < len(buffer):
            if not self._left:
                if len(buffer) - position < _HEADER:
                    break
                if buffer[position] > POSITION or any(buffer[position + 1 : position + 4]):
                    raise ProtocolError("the stream of the container's output is damaged: bad header")
                self._kind = buffer[position]
                self._left = int.from_bytes(buffer[position + 4 : position + _HEADER], "big")
                position += _HEADER
                continue
            piece = bytes(buffer[position : position + self._left])
            position += len(piece)
            self._left -= len(piece)
            yield self._kind, piece
        del buffer[:position]


def attach(api: API, container: str, query: Query, *, tty: bool) -> tuple[Duplex, bool]:
    """Attach to a container's streams.

    Over a websocket where the daemon multiplexes those (a Boxship), over a hijacked connection elsewhere (dockerd, Podman).

    Args:
        api: the daemon.
        container: id or name.
        query: the operation's parameters: stream, stdin, stdout, stderr, logs, detachKeys.
        tty: whether the container has a terminal, whose output is one stream.

    Returns:
        The stream, and whether it is multiplexed.

    Raises:
        APIError: the daemon refused.
    """
    path = f"/containers/{quote(container)}/attach"
    if api.is_docker:
        headers = [("Connection", "Upgrade"), ("Upgrade", "tcp")]
        stream, received, _ = api.upgrade(path, query, headers, method="POST")
        return Hijacked(stream, received), not tty
    from boxship.websocket import Handshake, WebSocket

    handshake = Handshake(() if tty else (MULTIPLEXED,))
    stream, received, answer = api.upgrade(f"{path}/ws", query, handshake.headers)
    chosen = handshake.check(answer)
    return WebSocket(stream, received, chosen), chosen == MULTIPLEXED


def start_exec(api: API, exec_id: str, *, tty: bool) -> tuple[Duplex, bool]:
    """Start an exec and have its streams, over the same ways as ``attach``.

    Args:
        api: the daemon.
        exec_id: its id.
        tty: whether it has a terminal, whose output is one stream.

    Returns:
        The stream, and whether it is multiplexed.

    Raises:
        APIError: the daemon refused.
    """
    path = f"/exec/{quote(exec_id)}/start"
    if api.is_docker:
        body = b'{"Detach":false,"Tty":%s}' % (b"true" if tty else b"false")
        headers = [("Connection", "Upgrade"), ("Upgrade", "tcp"), ("Content-Type", "application/json")]
        stream, received, _ = api.upgrade(path, {}, headers, "POST", body)
        return Hijacked(stream, received), not tty
    from boxship.websocket import Handshake, WebSocket

    handshake = Handshake(() if tty else (MULTIPLEXED,))
    stream, received, answer = api.upgrade(f"{path}/ws", {}, handshake.headers)
    chosen = handshake.check(answer)
    return WebSocket(stream, received, chosen), chosen == MULTIPLEXED


def exchange(duplex: Duplex, stdin: bytes, output: dict[int, bytearray]) -> None:
    """Send a whole input and gather a whole multiplexed output, whichever is to be waited for.

    Args:
        duplex: the streams.
        stdin: what is sent before the sending direction is closed.
        output: where output goes, by its kind.

    Raises:
        ProtocolError: the connection broke.
    """
    import select

    demultiplexer = Demultiplexer()
    poller = select.poll()
    if stdin:
        duplex.write(stdin)
    duplex.finish_writing()
    while True:
        poller.register(duplex.fileno(), select.POLLIN | (select.POLLOUT if duplex.unsent else 0))
        for _, events in poller.poll(0 if duplex.pending else None):
            if events & select.POLLOUT:
                duplex.flush()
        while (data := duplex.read_now()) is not None:
            if not data:
                return
            for kind, piece in demultiplexer.feed(data):
                output[kind] += piece


def logs(api: API, container: str, query: Query, *, tty: bool) -> Iterator[tuple[int, bytes]]:
    """A container's log as (kind, bytes), over a websocket where the daemon has that.

    There a follower goes on after the daemon's restart.

    Args:
        api: the daemon.
        container: id or name.
        query: the operation's parameters: follow, stdout, stderr, since, until, timestamps, tail, details.
        tty: whether the container has a terminal, whose output is one stream.

    Raises:
        APIError: the daemon refused.
    """
    path = f"/containers/{quote(container)}/logs"
    if query.get("follow") and not api.is_docker:
        from boxship.following import follow

        yield from follow(api, path, query)
        return
    demultiplexer = Demultiplexer()
    for chunk in _log_chunks(api, path, query, tty):
        if tty:
            yield STDOUT, chunk
        else:
            yield from demultiplexer.feed(chunk)


def _log_chunks(api: API, path: str, query: Query, tty: bool) -> Iterator[bytes]:
    if api.is_docker:
        with api.open("GET", path, query) as response:
            yield from response.chunks()
        return
    from boxship.websocket import Handshake, WebSocket

    handshake = Handshake(() if tty else (MULTIPLEXED,))
    stream, received, answer = api.upgrade(f"{path}/ws", query, handshake.headers)
    with WebSocket(stream, received, handshake.check(answer)) as socket:
        while chunk := socket.read():
            yield chunk
