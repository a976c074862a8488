"""What a log holds because the place it goes to takes no more: everything in blocking mode, else what its bounds allow."""

from __future__ import annotations

from typing import Final

LEAST_COST: Final = 128
"""What a frame counts for at least: the memory that one of a single byte takes, or nearly."""


class Backlog:
    """Frames in order, each with the number of messages in it.

    Args:
        bytes_limit: how much memory may wait, in bytes; None for no bound (only where whoever fills it is stopped).
        messages_limit: the same in messages.
    """

    __slots__ = ("_bytes", "_bytes_limit", "_frames", "_messages", "_messages_limit")

    def __init__(self, bytes_limit: int | None = None, messages_limit: int | None = None) -> None:
        self._bytes_limit = bytes_limit
        self._messages_limit = messages_limit
        self._frames: list[tuple[bytes, int]] = []
        self._bytes = 0
        self._messages = 0

    def __bool__(self) -> bool:
        return bool(self._frames)

    @property
    def messages(self) -> int:
        """How many messages wait."""
        return self._messages

    def add(self, framed: bytes, messages: int, *, begun: bool = False) -> bool:
        """Have a frame wait; False where there is no room for it.

        Args:
            framed: the frame, or what is left of it.
            messages: how many messages it holds.
            begun: its beginning is written: it must be finished, or the log would be torn, so it has room in any case.
        """
        if not begun:
            if self._bytes_limit is not None and self._bytes + _cost(framed) > self._bytes_limit:
                return False
            if self._messages_limit is not None and self._messages + messages > self._messages_limit:
                return False
        self._frames.append((framed, messages))
        self._bytes += _cost(framed)
        self._messages += messages
        return True

    def take(self) -> list[tuple[bytes, int]]:
        """All that waits, which no longer does."""
        frames, self._frames = self._frames, []
        self._bytes = self._messages = 0
        return frames


def _cost(framed: bytes) -> int:
    return max(len(framed), LEAST_COST)
