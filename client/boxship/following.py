"""Following a log for as long as the container lives, whatever becomes of the daemon meanwhile.

The daemon tells now and then, in a frame of a kind of its own, how far its messages go. What came before such a frame is passed
on; where the connection breaks, the next one begins there. So no line is lost, and none comes twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from boxship.api import API, Query
from boxship.errors import DaemonUnreachable, ProtocolError, Unavailable
from boxship.streams import MULTIPLEXED, POSITION, SYSTEM_ERROR, Demultiplexer
from boxship.websocket import Handshake, WebSocket

PATIENCE_SECONDS = 60.0
"""How long a daemon that has gone is waited for."""

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 1.0
_GOING_AWAY = 1001


def follow(api: API, path: str, query: Query, waiting: Callable[[float], object] = time.sleep) -> Iterator[tuple[int, bytes]]:
    """A container's log as (kind, bytes), up to its end.

    Args:
        api: the daemon, a Boxship.
        path: of the operation whose websocket it is.
        query: the operation's parameters.
        waiting: how to let so many seconds pass.

    Raises:
        APIError: the daemon refuses, as where the container was removed while the daemon was away.
        DaemonUnreachable: it didn't come back.
    """
    place = ""
    while True:
        held: list[tuple[int, bytes]] = []
        try:
            for kind, data in _connection(api, path, {**query, "positions": True, "after": place or None}):
                if kind == POSITION:
                    place = data.decode()
                    yield from held
                    held.clear()
                elif kind == SYSTEM_ERROR or not place:
                    # A daemon that doesn't tell its places can't be resumed at any either.
                    yield kind, data
                else:
                    held.append((kind, data))
        except (ProtocolError, DaemonUnreachable):
            if not place:
                raise
            _await_return(api, waiting)
            continue
        yield from held
        return


def _connection(api: API, path: str, query: Query) -> Iterator[tuple[int, bytes]]:
    """One connection's frames; ProtocolError where it ends otherwise than by the log's end."""
    handshake = Handshake((MULTIPLEXED,))
    stream, received, answer = api.upgrade(f"{path}/ws", query, handshake.headers)
    demultiplexer = Demultiplexer()
    socket = WebSocket(stream, received, handshake.check(answer))
    with socket:
        while chunk := socket.read():
            yield from demultiplexer.feed(chunk)
        if socket.close_code == _GOING_AWAY:
            raise ProtocolError("the daemon ended in the middle of a stream")


def _await_return(api: API, waiting: Callable[[float], object]) -> None:
    """Wait until the daemon answers again.

    Raises:
        DaemonUnreachable: it doesn't.
    """
    api.close()
    deadline, pause = time.monotonic() + PATIENCE_SECONDS, _FIRST_PAUSE
    while True:
        try:
            api.raw("GET", "/_ping")
        except (DaemonUnreachable, ProtocolError, Unavailable):
            if time.monotonic() >= deadline:
                raise
        else:
            return
        waiting(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
