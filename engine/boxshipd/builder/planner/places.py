"""Errors get the lines of the Dockerfile that they are about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boxshipd.builder.dockerfile.instructions import Dockerfile, Span
from boxshipd.builder.dockerfile.source import error_at
from boxshipd.builder.errors import ChecksFailed, DockerfileError
from boxshipd.errors import InvalidParameter


@contextmanager
def placed(dockerfile: Dockerfile, span: Span) -> Iterator[None]:
    """Errors inside that don't know their place are at ``span``, and show the lines.

    Raises:
        DockerfileError: what was raised inside, with its place.
    """
    try:
        yield
    except ChecksFailed:
        raise
    except DockerfileError as error:
        if error.first:
            span = Span(error.first, error.last)
        if error.excerpt:
            raise
        raise error_at(dockerfile.lines, span, error.message) from error
    except InvalidParameter as error:
        raise error_at(dockerfile.lines, span, str(error)) from error
