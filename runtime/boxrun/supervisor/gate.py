"""A gate before a container's program, open once its network is there: so container and network are made side by side."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Final, Self

_OPEN: Final = b"g"


class Gate:
    """A pipe of which the container's process has the reading end. It goes on with a byte, and gives up where the pipe ends."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC)

    def open(self) -> None:
        """Let the program run."""
        os.write(self._writer, _OPEN)

    def shut(self) -> None:
        """Have the process give up, where the gate wasn't opened."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.shut()
        os.close(self.reader)
