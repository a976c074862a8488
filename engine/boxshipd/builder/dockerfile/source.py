"""A Dockerfile's text as lines, and errors that show where in it they are."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from boxshipd.builder.dockerfile.instructions import Span
from boxshipd.builder.errors import DockerfileError

MAX_SIZE = 4 * 1024 * 1024
"""Bytes of a Dockerfile."""
_SHOWN = 200
"""Characters of a line in an excerpt."""


def physical_lines(text: bytes) -> list[str]:
    """The lines of a file, with their ends.

    Bytes that aren't UTF-8 become surrogates (PEP 383), so that what they are in can still be told from its neighbours.

    Raises:
        DockerfileError: the file is too large.
    """
    if len(text) > MAX_SIZE:
        raise DockerfileError(f"the Dockerfile is larger than {MAX_SIZE} bytes")
    decoded = text.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    lines = decoded.split("\n")
    last = lines.pop()
    return [f"{line}\n" for line in lines] + ([last] if last else [])


def excerpt(lines: Sequence[str], span: Span) -> str:
    """The lines of a span, marked, with those around them, as BuildKit shows them.

    Source: BuildKit solver/errdefs/source.go.
    """
    if not 1 <= span.first <= len(lines):
        return ""
    first, last = span.first, min(span.last, len(lines))
    around = 4 if first == last else 2
    shown = 0
    while shown < around:
        if first > 1:
            first -= 1
            shown += 1
        if last < len(lines):
            last += 1
            shown += 1
        shown += 1
    return "\n".join(
        f" {number:3} | {'>>>' if span.first <= number <= span.last else '   '} {_shown(lines[number - 1])}"
        for number in range(first, last + 1)
    )


def error_at(lines: Sequence[str], span: Span, message: str) -> DockerfileError:
    """An error about the lines of a span, with an excerpt."""
    return DockerfileError(message, span.first, span.last, excerpt(lines, span))


def located(error: DockerfileError, lines: Sequence[str], span: Span) -> DockerfileError:
    """The error with its place: what ``words`` and ``mounts`` raise doesn't know it."""
    return error if error.first else error_at(lines, span, error.message)


def _shown(line: str) -> str:
    text = line.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
