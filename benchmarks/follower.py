"""A follower of a log that checks each line's number, and goes on where it was whatever becomes of daemon and connection.

What complete means: the numbers of the lines that a visit yields rise by exactly one from its first line to its last.

* A follower with *positions* (our websocket) keeps what lies before a position frame, throws away what came after the last one
  when a connection breaks, and asks the next one to go on ``after`` it. It discards nothing of what that one brings.
* A *plain* one (HTTP, any Docker client) asks for timestamps and comes again with ``since`` the last one it has seen. That time
  is included, and several lines may bear it: lines that it has are discarded, but only ones of that very time. Any other line
  that it has, and any gap, is a fault. This holds as long as the wall clock isn't set back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from benchmarks.log_stream import POSITION, BrokenStreamError, LogStream

Kind = Literal["plain", "positions"]

PATIENCE_SECONDS = 120.0
"""How long a follower of a container that writes waits for a line on a connection."""

_PAUSE_SECONDS = 0.05
_SYSTEM_ERROR = 3
END = b"end"


class FaultError(Exception):
    """A follower's sequence isn't complete."""


class Follower:
    """One visit to a container's log.

    Args:
        socket: the daemon's unix socket.
        container: its id; its lines are ``<number> <text>``, the last one's text is ``end``.
        kind: how to follow.
        tail: how many lines that are there already to begin with.
        stall: seconds to read nothing before the next read; asked at each.

    Attributes:
        last: the number of the last line seen; -1 before the first.
        lines: how many lines were seen.
        connections: how many connections brought anything.
        discarded: how many lines were thrown away because they had been seen.
        ended: whether the container's last line was seen.
    """

    def __init__(self, socket: str, container: str, kind: Kind, *, tail: int, stall: Callable[[], float]) -> None:
        self._socket = socket
        self._container = container
        self._kind = kind
        self._tail = tail
        self._stall = stall
        self.last = -1
        self.lines = 0
        self.connections = 0
        self.discarded = 0
        self.ended = False
        self._place = ""
        self._time = b""
        self._repeats_until = b""
        self._partial = b""

    async def follow(self, leaving: asyncio.Event) -> None:
        """Follow until ``leaving`` is set and a line was seen after that, or the container's log has ended.

        Raises:
            FaultError: a line is missing, comes twice or never; or the log ended without its last line.
            RefusedError: the daemon doesn't know the container, or fails.
        """
        while not self.ended:
            stream = LogStream(self._socket, self._path(), websocket=self._kind == "positions")
            self._repeats_until = self._time
            if self._kind == "plain":
                self._partial = b""
            try:
                if await self._read(stream, leaving):
                    return
            except BrokenStreamError:
                await asyncio.sleep(_PAUSE_SECONDS * (1 + random.random()))
            finally:
                stream.close()

    async def _read(self, stream: LogStream, leaving: asyncio.Event) -> bool:
        """Read one connection; whether the visit is over."""
        held: list[bytes] = []
        begun = False
        async with aclosing(stream.frames()) as pieces:
            while True:
                try:
                    async with asyncio.timeout(PATIENCE_SECONDS):
                        frames = await anext(pieces, None)
                except TimeoutError:
                    raise FaultError(f"{self}: no line for {PATIENCE_SECONDS:.0f} s") from None
                if frames is None:
                    break
                self.connections += not begun
                begun = True
                before = self.lines
                for kind, payload in frames:
                    if kind == POSITION:
                        self._take(b"".join(held))
                        held.clear()
                        self._place = payload.decode()
                    elif kind == _SYSTEM_ERROR:
                        raise FaultError(f"{self}: the daemon says {payload!r}")
                    elif self._kind == "positions":
                        held.append(payload)
                    else:
                        self._take(payload)
                if leaving.is_set() and self.lines > before:
                    return True
                if seconds := self._stall():
                    await asyncio.sleep(seconds)
        self._take(b"".join(held))
        if not self.ended:
            raise FaultError(f"{self}: the stream ended, and the container's last line wasn't there")
        return True

    def _path(self) -> str:
        query = "stdout=1&follow=1"
        tail = f"&tail={self._tail}" if self.last < 0 else ""
        if self._kind == "positions":
            after = f"&after={quote(self._place)}" if self._place else tail
            return f"/containers/{self._container}/logs/ws?{query}&positions=1{after}"
        since = f"&since={_seconds(self._time)}" if self._time else tail
        return f"/containers/{self._container}/logs?{query}&timestamps=1{since}"

    def _take(self, data: bytes) -> None:
        """Check the numbers of the lines in ``data``; what isn't a whole line waits for its rest."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            stamp, _, numbered = line.partition(b" ") if self._kind == "plain" else (b"", b"", line)
            word, _, text = numbered.partition(b" ")
            number = int(word)
            if number == self.last + 1 or self.last < 0:
                self._repeats_until = b""
            elif number <= self.last and self._repeats_until and stamp == self._repeats_until:
                self.discarded += 1
                continue
            else:
                raise FaultError(f"{self}: line {number} follows line {self.last}")
            self.last, self._time = number, stamp
            self.lines += 1
            self.ended = text == END

    def __str__(self) -> str:
        where = f"at {self._place}" if self._kind == "positions" else f"at {self._time.decode()}"
        return f"{self._kind} follower of {self._container[:12]}, connection {self.connections}, {where}"


def _seconds(stamp: bytes) -> str:
    """RFC 3339 with nine decimals as seconds since the epoch with nine decimals."""
    whole, _, fraction = stamp.decode().removesuffix("Z").partition(".")
    return f"{datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp():.0f}.{fraction}"
