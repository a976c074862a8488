"""Clients that wait for a container's start."""

from __future__ import annotations

import asyncio
import os
import select

from boxrun.supervisor.contract import Attachment


class Pending:
    """A client's socket that waits for the container's start. ``close`` it, wherever it ends.

    Attributes:
        replayed: set once the client has read its head and got what was written before; the start waits for it.
    """

    __slots__ = ("attachment", "descriptor", "replayed")

    def __init__(self, attachment: Attachment, descriptor: int) -> None:
        self.attachment = attachment
        self.descriptor = descriptor
        self.replayed = asyncio.Event()

    @property
    def hung_up(self) -> bool:
        """Whether the client has gone."""
        poll = select.poll()
        poll.register(self.descriptor, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close our copy of the socket."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
