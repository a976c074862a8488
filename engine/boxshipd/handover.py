"""A client's socket on its way to a container: when it can be let go of.

docker-py reads the head of a stream through a buffer and the rest past it: what it gets together with the head is lost to it.
So nothing of a stream may be sent before its head has been read.
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
import time

_SECONDS = 1.0
"""How long a client may take to read the head before it gets the rest all the same."""

_TURNS = 10
"""How often that is looked at before the clock is asked: most clients read at once."""


async def head_read(descriptor: int) -> None:
    """Wait until a client has read everything that was sent to it so far.

    Args:
        descriptor: the client's connected socket; of others than unix sockets only their own kernel's reading is seen.
    """
    deadline = time.monotonic() + _SECONDS
    turns = 0
    # SIOCOUTQ of a unix socket is not zero while its peer has something to read: unix(7).
    while any(fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))):
        turns += 1
        if turns > _TURNS and time.monotonic() > deadline:
            return
        await asyncio.sleep(0 if turns <= _TURNS else 0.001)
