"""Waiting for a container: for its end, its next end, or its removal."""

from __future__ import annotations

import asyncio

from boxship.types.containers import WaitResponse

from boxshipd.errors import InvalidParameter

CONDITIONS = ("not-running", "next-exit", "removed")


class Waiters:
    """Those who wait for one container."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: dict[str, list[asyncio.Future[WaitResponse]]] = {}

    def add(self, condition: str) -> asyncio.Future[WaitResponse]:
        """A future for ``condition``; cancelling it is leaving.

        Raises:
            InvalidParameter: there is no such condition.
        """
        if condition not in CONDITIONS:
            raise InvalidParameter(f'invalid condition: "{condition}"')
        future: asyncio.Future[WaitResponse] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(condition, []).append(future)
        future.add_done_callback(lambda done: self._left(condition, done))
        return future

    def ended(self, exit_code: int) -> None:
        """The container's program has ended."""
        self._wake("not-running", exit_code)
        self._wake("next-exit", exit_code)

    def removed(self, exit_code: int) -> None:
        """The container is gone: nobody has anything left to wait for."""
        for condition in CONDITIONS:
            self._wake(condition, exit_code)

    def _wake(self, condition: str, exit_code: int) -> None:
        for future in self._futures.pop(condition, ()):
            if not future.done():
                future.set_result(WaitResponse(status_code=exit_code))

    def _left(self, condition: str, future: asyncio.Future[WaitResponse]) -> None:
        if future.cancelled():
            waiting = self._futures.get(condition, [])
            if future in waiting:
                waiting.remove(future)
