"""The ignore file of a context, as the planner needs it."""

from __future__ import annotations

from boxshipd.builder.dockerfile.ignore import Matcher, read_patterns

_EVERYTHING = ("*", "**", "**/*")


class Ignored:
    """What an ignore file leaves out.

    Args:
        text: the file.

    Raises:
        InvalidParameter: one of its patterns can't be right.
    """

    def __init__(self, text: bytes) -> None:
        # The patterns are part of the graph, whose digests are made of JSON: of what isn't UTF-8 no name there is anyway.
        self.patterns = tuple(_readable(pattern) for pattern in read_patterns(text))
        self._matcher = Matcher(self.patterns)

    @property
    def has_exceptions(self) -> bool:
        """Whether something is taken back that other patterns leave out."""
        return any(pattern.startswith("!") for pattern in self.patterns)

    def leaves_out(self, path: str) -> bool:
        """Whether a file isn't part of the context; its root (an empty path) isn't where all of it is left out."""
        return self._matcher.matches(path) if path else any(pattern in _EVERYTHING for pattern in self.patterns)


def _readable(pattern: str) -> str:
    return pattern.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
