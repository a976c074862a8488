"""Answers from here, ready for whoever asks the same again, byte for byte: such a query isn't even parsed."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

from boxrun.network.dns.codec import Answer

MOST: Final = 512
_LONGEST_QUERY: Final = 512


class Prepared:
    """The answers to queries that came in datagrams, by who asked and by the query but for its number.

    They say what was so when they were made, so they are to be cleared when names change, or what somebody is on. Where
    somebody asks more different things than anybody should, all begin anew, so that no list has to be kept of what was asked
    when.
    """

    def __init__(self) -> None:
        self._answers: dict[tuple[Hashable, bytes], Answer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, client: Hashable, data: bytes) -> bytes | None:
        """The answer to a query."""
        answer = self._answers.get((client, data[2:]))
        return None if answer is None else answer.to(data[:2])

    def keep(self, client: Hashable, data: bytes, answer: Answer) -> None:
        """Keep the answer to a query, if there is nothing unusual about their size."""
        if answer.truncated or len(data) > _LONGEST_QUERY:
            return
        if len(self._answers) >= MOST:
            self.clear()
        self._answers[client, data[2:]] = answer

    def clear(self) -> None:
        """Begin anew."""
        self._answers.clear()
