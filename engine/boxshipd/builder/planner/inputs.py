"""The inputs of a vertex that is being put together."""

from __future__ import annotations

from boxshipd.builder.graph import Input


class Inputs:
    """Inputs, each once.

    Args:
        base: the file system that the vertex changes, None where it begins with an empty one.
    """

    def __init__(self, base: Input | None = None) -> None:
        self._places: dict[Input, int] = {} if base is None else {base: 0}

    def place(self, source: Input) -> int:
        """Where an input is among them; it is added unless it is there."""
        return self._places.setdefault(source, len(self._places))

    def all(self) -> tuple[Input, ...]:
        """All of them, in order."""
        return tuple(self._places)
