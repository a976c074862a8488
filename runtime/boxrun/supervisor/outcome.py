"""How a start went, of a container or an exec, for whoever has asked for it."""

from __future__ import annotations

import asyncio

from boxrun.errors import ShimError
from boxrun.shim.protocol import Failed, Started


class NeverGreetedError(ShimError):
    """A connection ended before a shim had said anything on it: nothing was made, and the start can be tried again."""


class Outcome:
    """One start's, and that of its repetition where nothing had come of it.

    Attributes:
        awaited: somebody asks for it; where nobody does, the supervisor that was to be told is dead.
    """

    __slots__ = ("_future", "awaited")

    def __init__(self) -> None:
        self.awaited = False
        self._future: asyncio.Future[Started | Failed] = asyncio.get_running_loop().create_future()

    @property
    def known(self) -> bool:
        """Whether there is one."""
        return self._future.done()

    async def wait(self) -> Started | Failed:
        """Wait for it.

        Raises:
            NeverGreetedError: the zygote or the shim died before the shim had begun.
            ShimError: the shim died later, and what it had made is removed.
        """
        return await asyncio.shield(self._future)

    def expect(self) -> None:
        """Somebody is about to start it (again) and will ``wait``."""
        self.awaited = True
        if self._future.done():
            self._future = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Started | Failed | ShimError) -> None:
        """Tell who waits, unless it was told before."""
        if self._future.done():
            return
        if isinstance(outcome, ShimError):
            self._future.set_exception(outcome)
            # Where nobody awaits it (what is found at start-up), its going unread is no mistake.
            self._future.exception()
        else:
            self._future.set_result(outcome)
